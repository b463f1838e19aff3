"""The former name of `vicrop_engine.cli.output`, for one more version."""

from vicrop_engine.cli.output import print_facts, print_json

__all__ = ["print_facts", "print_json"]
