"""The Ray Serve application: replicas that are scaled and watched, with ingresses in front of them."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from vicrop_engine.ray_serve.ingress import Ingress
from vicrop_engine.ray_serve.replica import Replica
from vicrop_engine.ray_serve.settings import Plan, read_arguments

HEALTH_SECONDS = 2.0  # between two looks at a replica, so that a lost one is replaced soon
ROUTER = "vicrop_engine.ray_serve.router.PictureRouter"


def build_app(plan: Plan) -> Application:
    """Ingresses with the HTTP interface of `vicrop-engine serve`, in front of replicas."""
    return serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=plan.scale.ingresses,
        max_ongoing_requests=plan.scale.queued,
        ray_actor_options={"num_cpus": 0},  # it waits nearly all the time
        graceful_shutdown_timeout_s=plan.scheduler.deadline,
        health_check_period_s=HEALTH_SECONDS,
    ).bind(bind_replicas(plan), plan)


def bind_replicas(plan: Plan) -> Application:
    """The replicas alone, with no HTTP: for a RemoteScheduler behind their handle."""
    wanted = plan.scale
    return serve.deployment(
        Replica,
        name="replicas",
        autoscaling_config=AutoscalingConfig(
            min_replicas=wanted.min_replicas,
            max_replicas=wanted.max_replicas,
            target_ongoing_requests=plan.target_requests,
        ),
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        max_ongoing_requests=plan.most_requests,
        max_queued_requests=wanted.queued,
        ray_actor_options={"num_cpus": wanted.cpus, "num_gpus": wanted.gpus},
        graceful_shutdown_timeout_s=plan.scheduler.deadline,
        graceful_shutdown_wait_loop_s=1.0,
        health_check_period_s=HEALTH_SECONDS,
    ).bind(plan)


def app(arguments: dict[str, Any]) -> Application:
    """What `serve run vicrop_engine.ray_serve:app engine=ENGINE` builds, of what `read_arguments` takes."""
    return build_app(read_arguments(arguments))
