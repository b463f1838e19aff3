"""Whether the lowest versions that pyproject.toml declares do: installed, an engine built, asked and served.

    python3.11 scripts/lowest_versions.py [--keep DIRECTORY]

Makes a virtual environment of its own with the extras cpu, build and serve, every requirement at its floor.
Needs nothing but the standard library. Exit status 0 when all of it worked.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("cpu", "build", "serve")
SIGNS = ROOT / "engine" / "vicrop_engine" / "embedded" / "llava_signs"
SECONDS = 60  # that a server may take to be ready
_FLOOR = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?>=(?P<version>[0-9.]+)")


def floors(document: dict[str, object], extras: tuple[str, ...] = EXTRAS) -> dict[str, str]:
    """The lowest version of each requirement of the base and these extras, by name.

    Raises ValueError for one that declares none.
    """
    project = document["project"]
    assert isinstance(project, dict)
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    found = {}
    for line in (line for group in groups for line in group):
        floor = _FLOOR.match(line)
        if floor is None:
            raise ValueError(f"{line!r} declares no lowest version; write it as name>=version")
        found[floor["name"]] = floor["version"]
    return found


def install(directory: Path) -> Path:
    """The folder of commands of a new environment with everything at its floor."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    constraints = directory / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in floors(document).items()))
    venv.create(directory / "venv", with_pip=True)
    commands = directory / "venv" / "bin"
    what = f"{ROOT}[{','.join(EXTRAS)}]"
    run(commands / "pip", "install", "--quiet", "--constraint", constraints, what)
    return commands


def run(*command: object) -> str:
    """Standard output of a command. Raises CalledProcessError."""
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def ask(commands: Path, engine: Path, question: dict[str, str]) -> str:
    """The answer on the command line."""
    picture = SIGNS / "demo.png"
    out = run(commands / "vicrop-engine", "ask", engine, picture, question["question"], "--json")
    return str(json.loads(out)["answer"])


def served(commands: Path, engine: Path, question: dict[str, str]) -> str:
    """The answer over HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([commands / "vicrop-engine", "serve", engine, "--port", str(port)])
    try:
        wait_until_ready(server, url)
        picture = base64.b64encode((SIGNS / "demo.png").read_bytes()).decode()
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
        parts = [image, {"type": "text", "text": question["question"]}]
        body = json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return str(json.load(answer)["choices"][0]["message"]["content"])
    finally:
        server.terminate()
        server.wait(SECONDS)


def wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    """Until the server says so. Raises RuntimeError when it ends, or is not ready in time."""
    end = time.monotonic() + SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=SECONDS).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the server is not ready after {SECONDS} seconds; see what it said above")


def check(directory: Path) -> None:
    """All of it, in this directory. Raises what fails."""
    start = time.monotonic()
    commands = install(directory)
    print(f"installed in {time.monotonic() - start:.0f} s", flush=True)
    engine = directory / "engine"
    run(commands / "vicrop-engine", "build", "llava-signs", "-o", engine)
    question = json.loads((SIGNS / "demo.json").read_text(encoding="utf-8"))
    answers = {how.__name__: how(commands, engine, question) for how in (ask, served)}
    if set(answers.values()) != {question["answer"]}:
        raise RuntimeError(f"got {answers}, wanted {question['answer']!r} of each")
    print(f"the lowest versions build, answer and serve, {time.monotonic() - start:.0f} s in all")


def main() -> int:
    """Check, in a directory that is kept only where one is given."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="an empty directory to work in, which stays")
    keep = parser.parse_args().keep
    try:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            check(keep)
        else:
            with tempfile.TemporaryDirectory() as directory:
                check(Path(directory))
    except (OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        print(f"error: the lowest versions of pyproject.toml do not do: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
