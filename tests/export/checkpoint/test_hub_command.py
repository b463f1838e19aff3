"""`vicrop-engine build` of a hub id, in a process that knows the hub on this machine from its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.checkpoints import write_checkpoint
from tests.export.conftest import SMALL
from tests.hub_server import COMMIT, ENDLESS, HUB_ID, serving
from vicrop_engine.engine_dir.manifest import read_manifest
from vicrop_export.checkpoint.tensors import WEIGHTS

# SIGINT as at a terminal, also where the tests run in the background and it is ignored.
COMMAND = """
import signal, sys
from vicrop_engine.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""


def command_line(url: str, home: Path, *arguments: str | Path, **changes: str) -> subprocess.Popen[str]:
    """`vicrop-engine` with this hub and this cache."""
    own = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        env={**os.environ, **own, **changes},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_builds_from_the_hub_and_offline_from_what_it_fetched(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "repository", replace(SMALL, shards=2))
    output, home = tmp_path / "engine", tmp_path / "home"
    arguments = ("build", "llava-1.5", "--checkpoint", HUB_ID, "-o", output)
    with serving(checkpoint) as served:
        first = command_line(served.url, home, *arguments)
        out, err = first.communicate()
        assert first.returncode == 0, err
        assert f"from {HUB_ID} at {COMMIT}" in out
        assert "  0%  fetching weights, 0 of 2 files, 0 of " in err
        assert " 50%  fetching weights, " in err
        manifest = read_manifest(output)
        assert (manifest.model.source, manifest.model.revision) == (HUB_ID, COMMIT)
        served.log.clear()
        again = command_line(served.url, home, *arguments, HF_HUB_OFFLINE="1")
        assert again.communicate() == (out, "  0%  reading the checkpoint\n100%  already built\n")
        empty = command_line(served.url, tmp_path / "other", *arguments, HF_HUB_OFFLINE="1")
        out, err = empty.communicate()
        assert (empty.returncode, out) == (1, "")
        assert err.splitlines()[-1].startswith(
            f"error: {HUB_ID} was never fetched here, or not all of it, and HF"
        )
        assert served.log == []


def test_ctrl_c_ends_a_download_that_would_never_end(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "repository", SMALL)
    arguments = ("build", "llava-1.5", "--checkpoint", HUB_ID, "-o", tmp_path / "engine")
    with serving(checkpoint) as served:
        served.endless.add(WEIGHTS)
        process = command_line(served.url, tmp_path / "home", *arguments)
        try:
            assert served.flowing.wait(timeout=120)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 1
    assert f"0 of {ENDLESS / 1e6:.0f} MB" in err
    assert err.splitlines()[-1] == "error: stopped before it was done; nothing was kept"
    assert not (tmp_path / "engine").exists()
    assert not [path for path in (tmp_path / "home").rglob("*.safetensors") if path.is_file()]
