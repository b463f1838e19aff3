"""The extras: each brings what its name says, and nothing pip may install together breaks ONNX Runtime."""

from __future__ import annotations

import tomllib
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts.lowest_versions import floors

PROJECT: dict[str, Any] = tomllib.loads(
    (Path(__file__).parent.parent.parent / "pyproject.toml").read_text(encoding="utf-8")
)
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
RUNTIMES = {"onnxruntime", "onnxruntime-gpu"}


def required(*extras: str) -> dict[str, Requirement]:
    """Requirements by name of the base and these extras."""
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def conflicts() -> list[set[str]]:
    """Sets of extras declared not to go together."""
    return [{item["extra"] for item in items} for items in PROJECT["tool"]["uv"]["conflicts"]]


def brought(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Names of all that an installed distribution requires, and what that requires, and so on."""
    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    found = {name}
    for line in metadata.requires(name) or []:
        requirement = Requirement(line)
        wanted = [{"extra": extra} for extra in (extras or {""})]
        if requirement.marker is None or any(map(requirement.marker.evaluate, wanted)):
            found |= brought_if_installed(requirement, seen)
    return found


def brought_if_installed(requirement: Requirement, seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """The same for a requirement; one that is not installed here brings only itself."""
    try:
        return brought(requirement.name, frozenset(requirement.extras), seen)
    except metadata.PackageNotFoundError:
        return {requirement.name}


def test_the_base_brings_no_runtime() -> None:
    assert not RUNTIMES & set(required())


def test_no_extras_that_go_together_bring_both_runtimes() -> None:
    assert {"cpu", "gpu"} in conflicts()
    tried = 0
    for count in range(1, len(EXTRAS) + 1):
        for extras in combinations(EXTRAS, count):
            if not any(conflict <= set(extras) for conflict in conflicts()):
                tried += 1
                assert not set(required(*extras)) >= RUNTIMES, extras
    assert tried >= 2 ** (len(EXTRAS) - 1)


def test_conflicts_are_only_those_that_are_needed() -> None:
    """An extra kept apart without reason could not be used beside the others."""
    for conflict in conflicts():
        assert conflict <= set(EXTRAS)
        assert set(required(*conflict)) >= RUNTIMES


def test_nothing_brings_a_runtime_by_a_way_round() -> None:
    """As onnxruntime-genai does, which breaks an installed onnxruntime-gpu without a word."""
    walked: set[str] = set()
    for extra in sorted(set(EXTRAS) - {"cpu", "gpu"}):
        for requirement in required(extra).values():
            names = brought_if_installed(requirement, set())
            assert not RUNTIMES & names, (extra, requirement.name)
            walked |= names
    assert {"numpy", "torch", "sympy", "transformers", "onnx-ir", "ml-dtypes"} <= {
        name.lower().replace("_", "-") for name in walked
    }


@pytest.mark.parametrize(
    ("extra", "package", "fits", "does_not"),
    [
        ("cpu", "onnxruntime", "1.31.1", "1.32.0"),
        ("gpu", "onnxruntime-gpu", "1.31.1", "1.32.0"),
        ("gpu", "triton", "3.9.0", "3.8.0"),
        ("triton", "triton", "3.9.0", "3.8.0"),
        ("tensorrt", "tensorrt-cu13", "10.13.3.9", "11.4.0.106"),
        ("rtx", "tensorrt-rtx", "1.7.1.116", "1.8.0"),
    ],
)
def test_versions_are_those_that_fit_each_other(extra: str, package: str, fits: str, does_not: str) -> None:
    versions = required(extra)[package].specifier
    assert Version(fits) in versions
    assert Version(does_not) not in versions


def test_both_runtimes_are_of_one_version() -> None:
    assert required("cpu")["onnxruntime"].specifier == required("gpu")["onnxruntime-gpu"].specifier


def test_the_gpu_runtime_brings_its_libraries_and_what_launches_the_kernel() -> None:
    assert required("gpu")["onnxruntime-gpu"].extras == {"cuda", "cudnn"}
    assert set(required("triton")) <= set(required("gpu"))


def test_every_requirement_that_is_tried_has_a_floor() -> None:
    tried = floors(PROJECT)
    assert set(tried) == set(required("cpu", "build", "serve"))
    for name, version in tried.items():
        assert Version(version) in required("cpu", "build", "serve")[name].specifier
    with pytest.raises(ValueError, match="'numpy' declares no lowest version"):
        floors({"project": {"dependencies": ["numpy"]}}, ())
