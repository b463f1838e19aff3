"""The command line: `vicrop-engine build | ask | demo | info | layers | calibrate | profile | bench | serve`.

Reads options, calls the library, prints results on standard output and everything else on standard error.
Exit status: 0 done, 1 the work failed, 2 wrong usage or bad input. Whatever a command needs beyond options
is imported inside it, so that `--help` and errors are quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vicrop_engine import cli_output as output
from vicrop_engine.cli_bench import bench
from vicrop_engine.cli_calibrate import calibrate
from vicrop_engine.cli_errors import explain
from vicrop_engine.cli_layers import DeviceOption, layers
from vicrop_engine.cli_options import CropTokensOption, NoProbeOption, ToolOption, WhenOption
from vicrop_engine.cli_profile import profile
from vicrop_engine.cli_serve import serve
from vicrop_engine.errors import SettingError

INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

EngineArgument = Annotated[
    str, typer.Argument(metavar="ENGINE", help="An engine directory, or a known model's name.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Processor cores to use; else all there are.")]
ArchOption = Annotated[
    str | None, typer.Option(help="GPUs for tensorrt to compile for: sm_86,sm_89…; else this one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"vicrop-engine {version('vicrop-engine')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Answer questions about small details in pictures: look where the model looks, crop, ask again."""


@app.command()
def build(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="llava-signs, llava-1.5 or llava-1.5-13b; clip, yolo or sam for the methods of that name.",
        ),
    ],
    checkpoint: Annotated[
        str | None, typer.Option(help="A directory or Hub id with a checkpoint of that architecture.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="ENGINE_DIR", help="The engine directory to make; else in the cache."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Default heatmap layers from 0: 14, 10-20 or all; else the model's own."),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8 or int4; fp8 for tensorrt.")] = "fp32",
    target: Annotated[str, typer.Option(help="cpu, cuda (in fp16, int8 or int4) or tensorrt.")] = "cpu",
    arch: ArchOption = None,
    pure_grad: Annotated[
        bool, typer.Option("--pure-grad", help="Add the graph that the method pure-grad runs.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an engine that is already there.")] = False,
    debug: DebugOption = False,
) -> None:
    """Turn a checkpoint into an engine directory, checked against transformers on the way."""
    from vicrop_engine.cli_build import build_and_print, build_tool_and_print
    from vicrop_engine.models import KnownTool, cached_engine, cached_tool, find_buildable

    known = find_buildable(model)
    if isinstance(known, KnownTool):
        if (layers, precision, target, arch, pure_grad) != (None, "fp32", "cpu", None, False):
            raise SettingError(f"{model} is built in fp32 for cpu and has no layers; leave these options out")
        build_tool_and_print(known, out or cached_tool(known.name), checkpoint=checkpoint, force=force)
        return
    build_and_print(
        known,
        out or cached_engine(known.name),
        checkpoint=checkpoint,
        layers=layers,
        precision=precision,
        target=target,
        pure_grad=pure_grad,
        arch=arch,
        force=force,
    )


@app.command()
def ask(
    engine: EngineArgument,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    method: Annotated[
        str,
        typer.Option(
            help="How to find the crop: rel-att, grad-att, pure-grad, clip, yolo or sam; none: no crop."
        ),
    ] = "rel-att",
    high_res: Annotated[
        str,
        typer.Option(
            help="Make the heatmap of tiles of at most 1024 pixels a side, to find smaller things: on, off, "
            "or auto, which is on for pictures whose longer side is over 1536 pixels and that take 100 tiles "
            "or less (never with --compat)."
        ),
    ] = "auto",
    layers: Annotated[
        str | None, typer.Option(help="Heatmap layers from 0: 14, 10-20 or all; else the engine's own.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="Crop this window instead: x0,y0,x1,y1 in pixels.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.")] = 20,
    no_first_answer: Annotated[
        bool, typer.Option("--no-first-answer", help="Leave out the answer without the crop.")
    ] = False,
    when: WhenOption = "always",
    crop_tokens: CropTokensOption = "all",
    compat: Annotated[
        str | None, typer.Option(help="mllms-know: reproduce the published code's own geometry.")
    ] = None,
    threads: ThreadsOption = None,
    share_weights: Annotated[
        bool, typer.Option("--share-weights", help="Share the weights in memory with other processes.")
    ] = False,
    device: DeviceOption = None,
    clip: ToolOption = None,
    yolo: ToolOption = None,
    sam: ToolOption = None,
    no_probe: NoProbeOption = False,
    json: JsonOption = False,
    overlay: Annotated[
        Path | None, typer.Option(help="Write a PNG of picture, heatmap, tiles, window, crop and answers.")
    ] = None,
    heatmap: Annotated[
        Path | None,
        typer.Option(metavar="OUT.npy", help="Write the heatmap as NumPy's float32 [rows, cols]."),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Answer a question about a picture, without and with the crop."""
    window = None if box is None else output.parse_box(box)
    if overlay is not None:
        output.check_output_path(overlay, "overlay", ".png")
    if heatmap is not None:
        output.check_output_path(heatmap, "heatmap", ".npy")
    from vicrop_engine.image import open_picture

    picture = open_picture(image)
    for notice in picture.notices:
        output.notice(notice)
    from vicrop_engine.localizers.methods import check_method
    from vicrop_engine.models import resolve
    from vicrop_engine.vicrop import ViCropEngine

    check_method(method)
    with output.progress_bar(engine) as progress:
        directory = resolve(engine, progress)
    place = output.parse_device(device)
    loaded = ViCropEngine.load(
        directory,
        threads=threads,
        share_weights=share_weights,
        clip=clip,
        yolo=yolo,
        sam=sam,
        probe=not no_probe,
        **place,
    )
    with output.first_answer_shown() as heard:
        answer = loaded.ask(
            picture.image,
            question,
            method=method,
            high_res=high_res,
            layers=layers,
            max_new_tokens=max_new_tokens,
            first_answer=not no_first_answer,
            compat=compat,
            box=window,
            when=when,
            crop_tokens=crop_tokens,
            on_first_answer=heard,
        )
    if overlay is not None:
        output.write_overlay(overlay, picture.image, question, answer)
    if heatmap is not None:
        output.save_heatmap(answer, heatmap)
    if json:
        output.print_json(answer.to_json())
    else:
        output.print_facts(output.answer_facts(answer))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the overlay goes; made when missing.")] = Path(
        "vicrop-demo"
    ),
    debug: DebugOption = False,
) -> None:
    """Ask the embedded model about the embedded picture and draw what it looked at."""
    if out.exists() and not out.is_dir():
        raise SettingError(f"{out} is a file, wanted a directory for the overlay; give another --out")
    from vicrop_engine.demo import run_demo

    shown = run_demo()
    out.mkdir(parents=True, exist_ok=True)
    output.write_overlay(out / "overlay.png", shown.image, shown.question, shown.answer)
    facts = {"question": shown.question, "written there": shown.expected, **output.answer_facts(shown.answer)}
    output.print_facts({**facts, "overlay": str(out / "overlay.png")})


@app.command()
def info(
    engine: Annotated[
        str | None,
        typer.Argument(metavar="[ENGINE]", help="An engine directory or model name; else this machine."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the hash of every file, and run the probe again.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say what an engine is, or which models and execution providers this machine has."""
    from vicrop_engine import info as facts
    from vicrop_engine.models import find_engine, find_tool
    from vicrop_engine.tools.tool_facts import tool_facts, tool_info

    if engine is None:
        if verify:
            raise SettingError("--verify wants an engine: vicrop-engine info ENGINE --verify")
        document = facts.machine_info()
        lines = facts.machine_facts(document)
    elif (tool := find_tool(engine)) is not None:
        document = tool_info(tool, verify=verify)
        lines = tool_facts(document)
    else:
        directory = find_engine(engine)
        if directory is None:
            raise SettingError(f"{engine} was never built here; run 'vicrop-engine build {engine}' first")
        document = facts.engine_info(directory, verify=verify)
        lines = facts.engine_facts(document)
    if json:
        output.print_json(document)
    else:
        output.print_facts(lines)


for command in (layers, calibrate, profile, bench, serve):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; errors become one sentence on standard error."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    output.send_log_to_stderr()
    try:
        status = typer.main.get_command(app).main(arguments, prog_name="vicrop-engine", standalone_mode=False)
        sys.stdout.flush()
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except (Exception, KeyboardInterrupt) as error:
        return explain(error, debug="--debug" in arguments)


if __name__ == "__main__":
    sys.exit(main())
