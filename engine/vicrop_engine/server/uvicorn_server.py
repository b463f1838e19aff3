"""Serving an application on a socket until a signal, and then to the end of what was accepted."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from vicrop_engine.errors import SettingError
from vicrop_engine.server.guard.body_limits import MAX_HEADER_BYTES
from vicrop_engine.server.guard.connections import protocol_for
from vicrop_engine.server.settings import ServerSettings

logger = logging.getLogger("vicrop_engine.server")
SLACK = 5  # seconds beyond the longest answer that a drain may take
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """uvicorn's server, telling the application when it drains and leaving exit status 0 after it."""

    def __init__(self, app: Starlette, settings: ServerSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=protocol_for(settings),
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=int(settings.deadline) + SLACK,
            )
        )
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second Ctrl-C does not wait for it."""
        self._app.state.readiness.drain()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections and wait for what is under way."""
        logger.info("draining")
        await super().shutdown(sockets)

    def stop(self) -> None:
        """Drain as at a signal."""
        self.should_exit = True

    def serve_until_signal(self, listener: socket.socket) -> None:
        """Serve on `listener` in the main thread; uvicorn raises the signal again at the end, for nothing."""
        for sig in SIGNALS:
            signal.signal(sig, self.handle_exit)
        self.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to this address, before any engine is opened. Raises SettingError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            stack.pop_all()
    except OSError as error:
        raise SettingError(
            f"cannot listen on {host} port {port} ({error.strerror or error}); give another --host or --port"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where the socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
