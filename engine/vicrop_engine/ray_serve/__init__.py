"""Replicas of an engine on a Ray cluster: `serve run vicrop_engine.ray_serve:app engine=ENGINE`."""

from __future__ import annotations

import os

from vicrop_engine.errors import RayMissingError

# Ray reports its use over the network unless this is set before a cluster is started.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

try:
    from vicrop_engine.ray_serve.application import app, bind_replicas, build_app
except ModuleNotFoundError as error:
    raise RayMissingError("vicrop_engine.ray_serve", error.name) from error

__all__ = ["app", "bind_replicas", "build_app"]
