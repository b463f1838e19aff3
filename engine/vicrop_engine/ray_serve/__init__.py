"""Replicas of an engine on a Ray cluster, and requests to them: `serve run vicrop_engine.ray_serve:app engine=ENGINE`."""

from __future__ import annotations

try:
    from ray import serve as _serve
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"vicrop_engine.ray_serve needs {error.name}, which is not installed; run pip install 'vicrop-engine[ray]'",
        name=error.name,
    ) from error

from vicrop_engine.ray_serve.application import app, build_app
