"""What Ray reads from the environment when it is imported: nothing reported, nothing open to the network."""

from __future__ import annotations

import os

QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}  # reports of use, which else go over the network
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # else it listens on every address of the machine


def prepare_environment(address: str | None) -> None:
    """Set what is not set; before Ray is imported. Without an address it runs on this machine alone."""
    for name, value in {**QUIET, **(ALONE if address is None else {})}.items():
        os.environ.setdefault(name, value)
