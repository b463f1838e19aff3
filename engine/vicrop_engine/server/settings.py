"""What a server listens on, what it takes in and from whom. Knows nothing of how it is served."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from vicrop_engine.errors import SettingError, one_of, shown
from vicrop_engine.process_limits import usable_bytes
from vicrop_engine.server.guard.cross_origin import check_origins
from vicrop_engine.vicrop.params import WHEN

MIB = 1 << 20
MOST_BUFFERED = 256 * MIB
BUFFERED_SHARE = 16  # bodies get one part in so many of the memory this process may use, where that is less
WHOLE = (
    *("max_image_bytes", "max_pixels", "max_body_bytes", "max_tokens", "max_connections"),
    "max_buffered_bytes",
)
SECONDS = ("body_seconds", "deadline", "header_seconds", "send_seconds", "remote_seconds", "room_seconds")


def _buffered_bytes() -> int:
    return min(MOST_BUFFERED, max(1, usable_bytes() // BUFFERED_SHARE))


@dataclass(frozen=True)
class ServerSettings:
    """Bounds and defaults of a server.

    Without `api_keys` everyone who reaches it may ask. A picture is at most `max_image_bytes` encoded and
    `max_pixels` decoded; a body is at most `max_body_bytes`, and is all there within `body_seconds`. An
    answer is given up after `deadline` seconds. `when` and `max_tokens` hold where a request does not say;
    `models` are the names it goes by, the engine's own when there are none. A `strict` server refuses what a
    lenient one leaves out of a request and says so, and takes fewer kinds of pictures.

    A server on loopback answers to loopback's names and `allowed_hosts`; on other addresses to
    `allowed_hosts`, or to every name when there are none. Pages of `allowed_origins` may ask from a browser,
    every page's where that is "*", beside the server's own and those of allowed hosts. At most
    `max_connections` are open, and requests
    under way hold at most `max_buffered_bytes` of bodies together, beside the one that is read first (by
    default 256 MiB, less where this process may use little memory); further ones wait up to `room_seconds`
    until they are read. A connection has `header_seconds` to make
    a request and `send_seconds` to go on reading its answer; fetching a remote picture takes at most
    `remote_seconds`. Raises SettingError.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    allow_remote_images: bool = False
    max_image_bytes: int = 48 * MIB
    max_pixels: int = 50_000_000
    max_body_bytes: int = 64 * MIB
    body_seconds: float = 20.0
    deadline: float = 120.0
    when: str = "always"
    max_tokens: int = 20
    models: tuple[str, ...] = ()
    strict: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_connections: int = 512
    max_buffered_bytes: int = field(default_factory=_buffered_bytes)
    room_seconds: float = 60.0
    header_seconds: float = 10.0
    send_seconds: float = 30.0
    remote_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in WHOLE:
            if not _is_whole(value := getattr(self, name)) or value < 1:
                raise SettingError(f"got {name} {shown(value)}, wanted a whole number from 1 up")
        for name in SECONDS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise SettingError(f"got {name} {shown(value)}, wanted seconds above 0")
        if not _is_whole(self.port) or not 0 <= self.port < 1 << 16:
            raise SettingError(f"got port {shown(self.port)}, wanted one from 0 (any free one) to 65535")
        check_origins(self.allowed_origins)
        for host in self.allowed_hosts:
            if not host.strip():
                raise SettingError("got an empty allowed host, wanted a name such as vicrop.example")
            if not _is_name(host):
                raise SettingError(
                    f"got allowed host {shown(host)}, which no request goes by; wanted a name such as "
                    "vicrop.example, without scheme, port and path"
                )
        if any(not name.strip() for name in self.models):
            raise SettingError("got an empty name for the model, wanted what clients call it")
        if self.when not in WHEN:
            raise SettingError(one_of("when", self.when, WHEN))

    @property
    def is_open_to_all(self) -> bool:
        """Whether other machines may ask without a key."""
        return not self.api_keys and not is_loopback(self.host)


def _is_name(host: str) -> bool:
    """Whether a Host header may name it: a name, or an address with or without brackets."""
    if re.fullmatch(r"[A-Za-z0-9_.-]+", host):
        return True
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
