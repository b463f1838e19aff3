"""The command `serve`: an engine behind HTTP until a signal comes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.options import DeviceOption, NoProbeOption, ToolOption, WhenOption
from vicrop_engine.errors import ProviderError
from vicrop_engine.server.key_file import KEYS, read_keys

if TYPE_CHECKING:
    from vicrop_engine.engine import ViCropEngine


INSTALL = "pip install 'vicrop-engine[serve]'"

MIB = 1 << 20

KeyFileOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help=f"API keys, one a line; else those in ${KEYS}, with commas between."),
]

AllowedHostOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Name the server goes by beside this machine's own; once for each."),
]


def serve(
    engine: Annotated[
        str, typer.Argument(metavar="ENGINE", help="An engine directory, or a known model's name.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.")] = 8000,
    workers: Annotated[int, typer.Option(help="Stages computed at a time.")] = 2,
    running: Annotated[
        int | None, typer.Option(help="Requests under way at a time; else 8, or what fits the memory.")
    ] = None,
    waiting: Annotated[int, typer.Option(help="Requests that may wait; more are told to come back.")] = 64,
    deadline: Annotated[float, typer.Option(help="Seconds after which a request is given up.")] = 120.0,
    api_key_file: KeyFileOption = None,
    allow_remote_images: Annotated[
        bool, typer.Option("--allow-remote-images", help="Fetch pictures from http(s) URLs.")
    ] = False,
    cache_mib: Annotated[
        int | None,
        typer.Option(help="Kept of what pictures became, and a quarter of it of themselves; else 1024."),
    ] = None,
    max_image_mib: Annotated[int, typer.Option(help="Largest picture file.")] = 20,
    max_megapixels: Annotated[int, typer.Option(help="Largest picture in million pixels.")] = 50,
    max_body_mib: Annotated[int, typer.Option(help="Largest request.")] = 32,
    body_seconds: Annotated[float, typer.Option(help="Time a request may take to come in.")] = 20.0,
    header_seconds: Annotated[
        float, typer.Option(help="Time a connection may stay open without a whole request.")
    ] = 10.0,
    allowed_host: AllowedHostOption = None,
    when: WhenOption = "always",
    max_tokens: Annotated[int, typer.Option(help="Longest answer where the request says nothing.")] = 20,
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What clients call the model; else its own name.")
    ] = None,
    log_format: Annotated[str, typer.Option(help="Lines on standard error: json or text.")] = "json",
    threads: Annotated[int | None, typer.Option(help="Processor cores to use; else all there are.")] = None,
    share_weights: Annotated[
        bool, typer.Option("--share-weights", help="Share the weights in memory with other processes.")
    ] = False,
    device: DeviceOption = None,
    clip: ToolOption = None,
    yolo: ToolOption = None,
    sam: ToolOption = None,
    no_probe: NoProbeOption = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Serve an engine over HTTP to OpenAI's clients, with metrics; SIGTERM lets what was accepted finish."""
    _demand_extra()
    from vicrop_engine.server.ops.logs import log_to_stderr
    from vicrop_engine.server.run import run
    from vicrop_engine.server.settings import ServerSettings
    from vicrop_engine.serving.settings import SchedulerSettings

    kept = {} if cache_mib is None else {"picture_bytes": max(1, cache_mib * MIB // 4)}
    bounds = SchedulerSettings(workers=workers, running=running, waiting=waiting, deadline=deadline, **kept)
    settings = ServerSettings(
        host=host,
        port=port,
        api_keys=read_keys(api_key_file),
        allow_remote_images=allow_remote_images,
        max_image_bytes=max_image_mib * MIB,
        max_pixels=max_megapixels * 1_000_000,
        max_body_bytes=max_body_mib * MIB,
        body_seconds=body_seconds,
        header_seconds=header_seconds,
        allowed_hosts=tuple(allowed_host or ()),
        deadline=deadline,
        when=when,
        max_tokens=max_tokens,
        model=model_name,
    )
    log_to_stderr(log_format)

    def open_engine() -> ViCropEngine:
        from vicrop_engine.builder import resolve
        from vicrop_engine.engine import ViCropEngine

        with output.progress_bar(engine) as progress:
            directory = resolve(engine, progress)
        place = output.parse_device(device)
        return ViCropEngine.load(
            directory,
            threads=threads,
            cache_bytes=None if cache_mib is None else cache_mib * MIB,
            share_weights=share_weights,
            clip=clip,
            yolo=yolo,
            sam=sam,
            probe=not no_probe,
            **place,
        )

    run(open_engine, bounds, settings)


def _demand_extra() -> None:
    """Raises ProviderError with the command that installs what serving takes."""
    from importlib.util import find_spec

    for package in ("starlette", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise ProviderError(f"serving needs {package}, which is not installed; run {INSTALL}")
