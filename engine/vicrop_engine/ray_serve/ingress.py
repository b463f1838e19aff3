"""One ingress: the HTTP application of `vicrop-engine serve`, whose scheduler is the replicas."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from ray import serve
from ray.serve.handle import DeploymentHandle

from vicrop_engine.ray_serve.remote_scheduler import RemoteScheduler
from vicrop_engine.ray_serve.settings import Plan
from vicrop_engine.server.app import create_app
from vicrop_engine.server.key_file import read_keys
from vicrop_engine.serving.scheduler import Scheduler


@serve.ingress()
class Ingress:
    """Takes requests from Ray Serve's proxies, checks them, and hands them to replicas."""

    def __init__(self, replicas: DeploymentHandle[Any], plan: Plan) -> None:
        """API keys are those of the plan's file on this machine, else of its environment."""
        file = plan.scale.api_key_file
        keys = read_keys(None if file is None else Path(file))
        self._settings = dataclasses.replace(plan.server, api_keys=keys)
        self._scheduler = RemoteScheduler(replicas, plan)

    def __serve_build_asgi_app__(self) -> Any:
        """The application; Ray Serve calls this when the ingress has been made."""
        return create_app(cast(Scheduler, self._scheduler), self._settings)

    def __del__(self) -> None:
        """Ray Serve is done with this ingress, which has no request left."""
        if hasattr(self, "_scheduler"):
            self._scheduler.close(drain=False)
