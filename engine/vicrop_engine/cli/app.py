"""The command line: `vicrop-engine build | ask | demo | info | layers | calibrate | profile | bench | eval`.

Reads options, calls the library, prints results on standard output and everything else on standard error.
Exit status: 0 done, 1 the work failed, 2 wrong usage or bad input. A command's module is imported when the
command is named, and whatever it needs beyond options inside it, so that `--help` and errors are quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.errors import explain
from vicrop_engine.cli.options import DebugOption

INTERRUPTED = 130  # what typer makes of Ctrl-C
MODULES = {"profile": "profile_command", "eval": "eval_command"}  # where it is not the command's name
COMMANDS = ("ask", "build", "demo", "info", "layers", "calibrate", "profile", "bench", "eval", "serve")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"vicrop-engine {version('vicrop-engine')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Answer questions about small details in pictures: look where the model looks, crop, ask again."""


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The application with the command that is named first; with all of them where none is."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name in [named] if named in COMMANDS else COMMANDS:
        module = import_module(f"vicrop_engine.cli.{MODULES.get(str(name), name)}")
        app.command(str(name))(getattr(module, str(name)))
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; errors become one sentence on standard error."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    output.show_all_characters()
    output.send_log_to_stderr()
    try:
        command = typer.main.get_command(app_for(arguments))
        status = command.main(arguments, prog_name="vicrop-engine", standalone_mode=False)
        sys.stdout.flush()
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except (Exception, KeyboardInterrupt) as error:
        return explain(error, debug="--debug" in arguments)
