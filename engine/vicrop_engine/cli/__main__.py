"""`python -m vicrop_engine.cli`."""

import sys

from vicrop_engine.cli.app import run

sys.exit(run())
