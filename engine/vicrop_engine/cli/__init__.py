"""The command line, a command a file: `main` runs it."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; errors become one sentence on standard error."""
    from vicrop_engine.cli.app import run

    return run(arguments)
