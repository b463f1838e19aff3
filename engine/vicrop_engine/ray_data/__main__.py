"""The command `python -m vicrop_engine.ray_data`: reads options, runs the job, says how it went."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.errors import explain
from vicrop_engine.cli.options import CropTokensOption, WhenOption
from vicrop_engine.errors import RayMissingError
from vicrop_engine.ray_data.environment import prepare_environment
from vicrop_engine.ray_data.questions import read_questions

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def answer(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help="As for 'vicrop-engine ask'.")],
    questions: Annotated[
        Path, typer.Argument(metavar="QUESTIONS", help='A JSON object a line, with "image" and "question".')
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The answers, a JSON object a line; taken up where it ends.")
    ],
    actors: Annotated[int, typer.Option(help="Engines to run.")] = 1,
    cpus: Annotated[int, typer.Option(help="Processor cores of each.")] = 1,
    gpus: Annotated[float, typer.Option(help="GPUs of each.")] = 0.0,
    method: Annotated[str, typer.Option(help="How to find the crop, as for 'ask'.")] = "rel-att",
    high_res: Annotated[str, typer.Option(help="Heatmap of tiles, as for 'ask': on, off or auto.")] = "auto",
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.")] = 20,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="A running Ray cluster; else one of this machine alone."),
    ] = None,
    when: WhenOption = "always",
    crop_tokens: CropTokensOption = "all",
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Answer every question of a file on a Ray cluster, or on this machine."""
    asked = read_questions(questions)
    prepare_environment(address)
    try:
        from vicrop_engine.ray_data.job import JobSettings, answer_file, open_ray
    except ModuleNotFoundError as error:
        raise RayMissingError("vicrop_engine.ray_data", error.name) from error
    from vicrop_engine.vicrop.params import AskParams

    params = AskParams(
        method=method, high_res=high_res, max_new_tokens=max_new_tokens, when=when, crop_tokens=crop_tokens
    )
    settings = JobSettings(engine, actors, cpus, gpus, params)
    open_ray(address)
    new, failed = answer_file(asked, out, settings)
    output.notice(f"{new} questions asked, {len(asked) - new} answered before, {failed} failed: {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status; errors become one sentence on standard error."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    output.send_log_to_stderr()
    try:
        command = typer.main.get_command(app)
        status = command.main(arguments, prog_name="vicrop_engine.ray_data", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except (Exception, KeyboardInterrupt) as error:
        return explain(error, debug="--debug" in arguments)


if __name__ == "__main__":
    sys.exit(main())
