"""The Dockerfile, read: what it copies is there, what it installs exists, and nobody runs as root.

No image is built here.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from vicrop_engine.runtime.machine import OLDEST_CUDA

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
UBUNTU_PYTHON = {"24.04": "3.12"}


@dataclass(frozen=True)
class Instruction:
    """One instruction, its words joined over continued lines, and the number of its stage from 0."""

    name: str
    text: str
    stage: int


def instructions() -> list[Instruction]:
    """All of them in order."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[Instruction] = []
    stage = -1
    for line in joined.splitlines():
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(name, rest.strip(), stage))
    return found


def texts(name: str, *, stage: int | None = None) -> list[str]:
    """What stands behind every instruction of this name, in one stage or all."""
    chosen = [found for found in instructions() if found.name == name]
    return [found.text for found in chosen if stage is None or found.stage == stage]


def last_stage() -> int:
    return instructions()[-1].stage


def environment() -> dict[str, str]:
    """The last stage's variables."""
    pairs = " ".join(texts("ENV", stage=last_stage())).split()
    return dict(pair.split("=", 1) for pair in pairs)


def copied() -> list[str]:
    """What comes from the checkout."""
    from_checkout = [text for text in texts("COPY") if not text.startswith("--from")]
    return [name for text in from_checkout for name in text.split()[:-1]]


def test_there_are_two_stages_and_only_the_environment_goes_over() -> None:
    assert last_stage() == 1
    assert texts("COPY", stage=1) == ["--from=build /opt/vicrop /opt/vicrop"]
    assert texts("FROM")[0].endswith(" AS build")


def test_base_images_are_pinned_and_bring_the_cuda_that_the_runtime_wants() -> None:
    images = {text.split()[0] for text in texts("FROM")}
    assert len(images) == 1, "packages compiled for one system would run on another"
    found = re.fullmatch(r"nvidia/cuda:(\d+)\.(\d+)\.\d+-base-ubuntu(\d\d\.\d\d)", images.pop())
    assert found is not None
    assert (int(found[1]), int(found[2])) >= OLDEST_CUDA
    python = UBUNTU_PYTHON[found[3]]
    assert f"/python{python}/" in environment()["LD_LIBRARY_PATH"]
    least = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert [int(part) for part in python.split(".")] >= [int(part) for part in least.split(".")]


def test_the_libraries_of_the_packages_are_on_the_loaders_path() -> None:
    places = environment()["LD_LIBRARY_PATH"].split(":")
    assert [place.split("/nvidia/")[-1] for place in places] == [
        "cu13/lib",
        "cudnn/lib",
        "${LD_LIBRARY_PATH}",
    ]
    assert all(place.startswith("/opt/vicrop/lib/") for place in places[:-1])


def test_the_extras_it_installs_exist_and_have_the_gpu_runtime() -> None:
    (line,) = [text for text in texts("RUN") if "pip install" in text]
    found = re.search(r'pip install --no-cache-dir "\.\[([a-z,]+)\]"', line)
    assert found is not None
    extras = set(found[1].split(","))
    assert extras <= set(PROJECT["project"]["optional-dependencies"])
    assert "gpu" in extras
    assert "cpu" not in extras


def test_it_copies_what_is_there_and_all_that_the_package_is_made_of() -> None:
    assert all((ROOT / name).exists() for name in copied() if name != "./")
    project, packages = PROJECT["project"], PROJECT["tool"]["setuptools"]["packages"]["find"]["where"]
    assert {"pyproject.toml", project["readme"], *project["license-files"], *packages} <= set(copied())


def test_what_it_copies_is_sent_to_the_builder_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    shut_out = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    tracked = [path.name for name in copied() for path in (ROOT / name).rglob("*.py")]
    assert not any(fnmatch.fnmatch(name, rule) for name in tracked for rule in shut_out)


def test_nobody_runs_as_root_and_the_cache_is_theirs() -> None:
    (user,) = texts("USER", stage=last_stage())
    assert int(user) >= 1000
    (made,) = [text for text in texts("RUN", stage=last_stage()) if "useradd" in text]
    home = environment()["VICROP_HOME"]
    assert f"useradd --uid {user} --create-home vicrop" in made
    assert f"install --directory --owner vicrop {home}" in made
    assert texts("VOLUME") == [f'["{home}"]']
    assert environment()["TRITON_CACHE_DIR"].startswith(home)
    names = [found.name for found in instructions() if found.stage == last_stage()]
    assert "RUN" not in names[names.index("USER") :]


def test_it_starts_the_command_line() -> None:
    (entry,) = texts("ENTRYPOINT")
    assert entry == f'["{next(iter(PROJECT["project"]["scripts"]))}"]'
    assert texts("CMD") == ['["info"]']


def test_the_kernels_launcher_can_be_compiled() -> None:
    (packages,) = [text for text in texts("RUN", stage=last_stage()) if "apt-get install" in text]
    assert {"gcc", "libc6-dev", "python3-dev", "python3"} <= set(packages.split())
