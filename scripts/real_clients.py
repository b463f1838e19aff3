"""Whether programs that people have work unchanged, each by its own library and its own default call.

    python scripts/real_clients.py [--python PYTHON]

Installs LangChain, LlamaIndex and LiteLLM, whose dependencies are their own, into a virtual environment of
its own, or takes one that has them; starts a server of the embedded engine and has each client ask it. Every
question about the picture has to be answered as the engine answers it. Exit status 1 when a call fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs as a file

from scripts.soak_server import ServerProcess
from vicrop_engine import ViCropEngine
from vicrop_engine.examples import demo_question

PACKAGES = ("langchain-openai", "llama-index-llms-openai-like", "litellm[proxy]")
CALLS = Path(__file__).with_name("real_client_calls.py")
OTHERWISE = ("history", "structured", "complete", "health")  # calls that ask something else, or for JSON


def installed(folder: Path) -> Path:
    """The Python of a new environment with the clients."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def made(python: Path) -> list[dict[str, Any]]:
    """What came of every call."""
    path, asked = demo_question()
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "log") as server:
        url = f"http://127.0.0.1:{server.port}"
        command = [str(python), str(CALLS), url, str(path), asked["question"]]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in told.splitlines() if line.startswith("{")]


def fault(found: dict[str, Any], expected: str) -> str | None:
    """What is wrong with a call; None where it did what it should."""
    if "error" in found:
        return str(found["error"])
    if not any(word in found["call"] for word in OTHERWISE) and found["answer"] != expected:
        return f"answered {found['answer']!r} instead of {expected!r}"
    return None if found["answer"] else "answered nothing"


def main() -> int:
    """Ask, print a line a call."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", type=Path, help="of an environment that has the clients")
    options = parser.parse_args()
    path, asked = demo_question()
    expected = ViCropEngine.load("llava-signs").ask(path, asked["question"]).answer
    with tempfile.TemporaryDirectory() as folder:
        calls = made(options.python or installed(Path(folder)))
    faults = [fault(found, expected) for found in calls]
    for found, wrong in zip(calls, faults, strict=True):
        print(f"{found['client']} {found['version']}, {found['call']}: {wrong or 'as it should be'}")
    missing = {name.partition("[")[0] for name in PACKAGES} - {found["client"] for found in calls}
    if missing:
        print(f"not there: {', '.join(sorted(missing))}")
    return 1 if missing or any(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
