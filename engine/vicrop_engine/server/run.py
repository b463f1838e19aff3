"""From an engine to the end of its serving: socket, engine, scheduler, application, drain."""

from __future__ import annotations

import logging
from collections.abc import Callable

from vicrop_engine.engine import ViCropEngine
from vicrop_engine.errors import RunError
from vicrop_engine.server.app import create_app
from vicrop_engine.server.ops.logs import FACTS
from vicrop_engine.server.ops.malloc_trim import bound_heaps
from vicrop_engine.server.ops.traces import open_traces
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.server.uvicorn_server import Server, listen, url_of
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.serving.settings import SchedulerSettings

logger = logging.getLogger("vicrop_engine.server")


def run(open_engine: Callable[[], ViCropEngine], bounds: SchedulerSettings, settings: ServerSettings) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what was accepted.

    The address is taken before the engine is opened. Raises SettingError where it cannot be, what
    `open_engine` raises, and RunError when the first question fails.
    """
    bound_heaps()
    with listen(settings.host, settings.port) as listener:
        if settings.is_open_to_all:
            logger.warning(
                "%s can be reached by other machines and no API keys are set, so anyone there may ask; "
                "give --api-key-file, or listen on 127.0.0.1",
                settings.host,
            )
        scheduler, traces = Scheduler(open_engine(), bounds), open_traces()
        try:
            app = create_app(scheduler, settings, traces)
            server = Server(app, settings)
            app.state.readiness.on_failure = server.stop
            logger.info("listening", extra={FACTS: {"url": url_of(listener)}})
            server.serve_until_signal(listener)
        finally:
            scheduler.close(drain=True)
            traces.close()
    failure = app.state.readiness.failure
    if failure is not None:
        raise RunError(f"the first question failed: {failure}")
    logger.info("stopped")
