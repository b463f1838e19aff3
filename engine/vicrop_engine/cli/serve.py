"""The command `serve`: an engine behind HTTP until a signal comes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicrop_engine.cli.opening import MIB, Opening
from vicrop_engine.cli.options import (
    DebugOption,
    DeviceOption,
    EngineArgument,
    NoProbeOption,
    ShareWeightsOption,
    ThreadsOption,
    ToolOption,
    WhenOption,
)
from vicrop_engine.errors import ProviderError
from vicrop_engine.server.key_file import KEYS, read_keys

if TYPE_CHECKING:
    from vicrop_engine.serving.settings import SchedulerSettings


INSTALL = "pip install 'vicrop-engine[serve]'"


KeyFileOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help=f"API keys, one a line; else those in ${KEYS}, with commas between."),
]

AllowedHostOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Name the server goes by beside this machine's own; once for each."),
]


AllowOriginOption = Annotated[
    list[str] | None,
    typer.Option(metavar="ORIGIN", help="Site whose pages may ask from a browser, or '*'; once for each."),
]


HostOption = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")]
PortOption = Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.")]
WorkersOption = Annotated[int, typer.Option(help="Stages computed at a time.")]
RunningOption = Annotated[
    int | None, typer.Option(help="Requests under way at a time; else 8, or what fits the memory.")
]
WaitingOption = Annotated[int, typer.Option(help="Requests that may wait; more are told to come back.")]
DeadlineOption = Annotated[float, typer.Option(help="Seconds after which a request is given up.")]
AllowRemoteImagesOption = Annotated[
    bool, typer.Option("--allow-remote-images", help="Fetch pictures from http(s) URLs.")
]
CacheMibOption = Annotated[
    int | None,
    typer.Option(help="Kept of what pictures became, and a quarter of it of themselves; else 1024."),
]
MaxImageMibOption = Annotated[int, typer.Option(help="Largest picture file.")]
MaxMegapixelsOption = Annotated[int, typer.Option(help="Largest picture in million pixels.")]
MaxBodyMibOption = Annotated[int, typer.Option(help="Largest request.")]
BodySecondsOption = Annotated[float, typer.Option(help="Time a request may take to come in.")]
HeaderSecondsOption = Annotated[
    float, typer.Option(help="Time a connection may stay open without a whole request.")
]
MaxTokensOption = Annotated[int, typer.Option(help="Longest answer where the request says nothing.")]
ModelNameOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="What clients call the model, once for each; else its own name."),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Refuse what is otherwise left out of a request and said.")
]
LogFormatOption = Annotated[str, typer.Option(help="Lines on standard error: json or text.")]


def serve(
    engine: EngineArgument,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    workers: WorkersOption = 2,
    running: RunningOption = None,
    waiting: WaitingOption = 64,
    deadline: DeadlineOption = 120.0,
    api_key_file: KeyFileOption = None,
    allow_remote_images: AllowRemoteImagesOption = False,
    cache_mib: CacheMibOption = None,
    max_image_mib: MaxImageMibOption = 48,
    max_megapixels: MaxMegapixelsOption = 50,
    max_body_mib: MaxBodyMibOption = 64,
    body_seconds: BodySecondsOption = 20.0,
    header_seconds: HeaderSecondsOption = 10.0,
    allowed_host: AllowedHostOption = None,
    allow_origin: AllowOriginOption = None,
    when: WhenOption = "always",
    max_tokens: MaxTokensOption = 20,
    model_name: ModelNameOption = None,
    strict: StrictOption = False,
    log_format: LogFormatOption = "json",
    threads: ThreadsOption = None,
    share_weights: ShareWeightsOption = False,
    device: DeviceOption = None,
    clip: ToolOption = None,
    yolo: ToolOption = None,
    sam: ToolOption = None,
    no_probe: NoProbeOption = False,
    debug: DebugOption = False,
) -> None:
    """Serve an engine over HTTP to OpenAI's clients, with metrics; SIGTERM lets what was accepted finish."""
    _demand_extra()
    from vicrop_engine.server.ops.logs import log_to_stderr
    from vicrop_engine.server.run import run
    from vicrop_engine.server.settings import ServerSettings

    opening = Opening(engine, threads, share_weights, device, (clip, yolo, sam), no_probe, cache_mib)
    settings = ServerSettings(
        host=host,
        port=port,
        api_keys=read_keys(api_key_file),
        allow_remote_images=allow_remote_images,
        body_seconds=body_seconds,
        header_seconds=header_seconds,
        allowed_hosts=tuple(allowed_host or ()),
        allowed_origins=tuple(allow_origin or ()),
        deadline=deadline,
        when=when,
        max_tokens=max_tokens,
        models=tuple(model_name or ()),
        strict=strict,
        **_sizes(max_image_mib, max_megapixels, max_body_mib),
    )
    log_to_stderr(log_format)
    run(opening.open, _bounds(workers, running, waiting, deadline, cache_mib), settings)


def _sizes(max_image_mib: int, max_megapixels: int, max_body_mib: int) -> dict[str, int]:
    """Bounds of a request in bytes and pixels."""
    return {
        "max_image_bytes": max_image_mib * MIB,
        "max_pixels": max_megapixels * 1_000_000,
        "max_body_bytes": max_body_mib * MIB,
    }


def _bounds(
    workers: int, running: int | None, waiting: int, deadline: float, cache_mib: int | None
) -> SchedulerSettings:
    from vicrop_engine.serving.settings import SchedulerSettings

    kept = {} if cache_mib is None else {"picture_bytes": max(1, cache_mib * MIB // 4)}
    return SchedulerSettings(workers=workers, running=running, waiting=waiting, deadline=deadline, **kept)


def _demand_extra() -> None:
    """Raises ProviderError with the command that installs what serving takes."""
    from importlib.util import find_spec

    for package in ("starlette", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise ProviderError(f"serving needs {package}, which is not installed; run {INSTALL}")
    from vicrop_engine.runtime.extras import extra_problem

    if (problem := extra_problem("serve", "serving")) is not None:
        raise ProviderError(problem)
