"""What the command line says when something fails, and the exit status it ends with."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from vicrop_engine.cli import output
from vicrop_engine.errors import ViCropError, not_enough_memory, ran_out_of_memory


def explain(error: BaseException, *, debug: bool = False) -> int:
    """Say what went wrong on standard error, with `debug` after a traceback; returns the exit status."""
    if debug:
        traceback.print_exception(error)
    status = 1
    if isinstance(error, ViCropError):
        message, status = str(error), error.exit_code
    elif isinstance(error, typer.TyperException):
        message, status = _usage_sentence(error), 2
    elif isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    elif isinstance(error, (KeyboardInterrupt, typer.Abort)):
        message = "stopped before it was done; nothing was kept"
    elif ran_out_of_memory(error):
        message = str(not_enough_memory("for this"))
    elif isinstance(error, OSError):
        message = output.describe_os_error(error)
    else:
        message = f"unexpected {type(error).__name__} ({error}); run it again with --debug and report it"
    output.notice(f"error: {' '.join(message.split())}")
    return status


def _usage_sentence(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "vicrop-engine"
    message = error.format_message().strip().replace(". Did you mean", "; did you mean").rstrip(".?")
    return f"{message}; see '{command} --help'"
