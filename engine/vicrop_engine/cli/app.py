"""The command line: `vicrop-engine build | ask | demo | info | layers | calibrate | profile | bench | serve`.

Reads options, calls the library, prints results on standard output and everything else on standard error.
Exit status: 0 done, 1 the work failed, 2 wrong usage or bad input. Whatever a command needs beyond options
is imported inside it, so that `--help` and errors are quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.ask import ask
from vicrop_engine.cli.bench import bench
from vicrop_engine.cli.build import build
from vicrop_engine.cli.calibrate import calibrate
from vicrop_engine.cli.demo import demo
from vicrop_engine.cli.errors import explain
from vicrop_engine.cli.info import info
from vicrop_engine.cli.layers import layers
from vicrop_engine.cli.options import DebugOption
from vicrop_engine.cli.profile_command import profile
from vicrop_engine.cli.serve import serve

INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


for command in (ask, build, demo, info, layers, calibrate, profile, bench, serve):
    app.command()(command)


def run(arguments: Sequence[str] | None = None) -> int:
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
