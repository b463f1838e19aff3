"""`optimum-cli export vicrop`: `vicrop-engine build` under the name that users of optimum look for.

optimum finds this file by its place and imports it at every start, so nothing heavy is imported before the
command runs. Knows options; how an engine is built is not its business.

Where optimum is not installed, `optimum` is still a namespace that can be found, and transformers'
is_optimum_available says True; its GPTQ loader, which asks, then fails with the ModuleNotFoundError instead.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class ViCropExportCommand(BaseOptimumCLICommand):
    """Turn a LLaVA checkpoint into a vicrop-engine directory."""

    COMMAND = CommandInfo(name="vicrop", help="Export LLaVA-1.5 to an engine that looks and crops.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare the options; those of `vicrop-engine build` have its names."""
        parser.add_argument(
            "-m",
            "--model",
            required=True,
            help="A directory or Hub id with a LLaVA-1.5 checkpoint, or the name of a known model.",
        )
        parser.add_argument("output", type=Path, metavar="OUT", help="The engine directory to make.")
        parser.add_argument("--precision", default="fp32", help="fp32, fp16, int8 or int4.")
        parser.add_argument(
            "--layers", help="Default heatmap layers from 0: 14, 10-20 or all; else the model's own."
        )
        parser.add_argument("--target", default="cpu", help="cpu.")
        parser.add_argument("--force", action="store_true", help="Replace an engine that is already there.")
        parser.add_argument("--debug", action="store_true", help="Show a traceback when something fails.")

    def run(self) -> None:
        """Build and print what was built; exits with vicrop-engine's own status when that fails."""
        from vicrop_engine.cli.build import build_and_print
        from vicrop_engine.cli.errors import explain
        from vicrop_engine.cli.output import send_log_to_stderr
        from vicrop_engine.engine_dir.registry import model_of

        options = self.args
        send_log_to_stderr()
        try:
            model, checkpoint = model_of(options.model)
            build_and_print(
                model,
                options.output,
                checkpoint=checkpoint,
                layers=options.layers,
                precision=options.precision,
                target=options.target,
                force=options.force,
            )
        except (Exception, KeyboardInterrupt) as error:
            sys.exit(explain(error, debug=options.debug))


REGISTER_COMMANDS = [(ViCropExportCommand, ExportCommand)]
