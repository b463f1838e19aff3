"""What an extra of this distribution brings: whether it is installed, and in versions that do.

Reads what pip has written down; imports none of it.
"""

from __future__ import annotations

import re
from importlib import metadata
from types import ModuleType

from vicrop_engine.runtime.onnx_runtime import package_version

DISTRIBUTION = "vicrop-engine"
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*>=(?P<floor>[0-9.]+)[^;]*;\s*"
    r"extra\s*==\s*['\"](?P<extra>\w+)['\"]"
)


def floors(extra: str) -> dict[str, str]:
    """The lowest version that does of each package of the extra, by name; empty where pip knows nothing."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    found = (_REQUIREMENT.match(line) for line in lines)
    return {each["name"]: each["floor"] for each in found if each is not None and each["extra"] == extra}


def extra_problem(extra: str, what: str) -> str | None:
    """Why `what` cannot be done with the packages as installed, and the command that mends it; else None."""
    for name, floor in floors(extra).items():
        installed = package_version(name)
        if installed is None:
            return f"{what} needs {name}, which is not installed; run {command(extra)}"
        if _numbers(installed) < _numbers(floor):
            wanted = f"{what} needs {name} {floor} or newer"
            return f"{wanted}, and {installed} is installed; run {command(extra, '-U ')}"
    return None


def import_problem(error: BaseException, extra: str, what: str) -> str:
    """The same of packages that are there and fail when they are imported or used."""
    known = floors(extra)
    if isinstance(error, ModuleNotFoundError) and str(error.name).replace("_", "-") in known:
        return f"{what} needs {error.name}, which is not installed; run {command(extra)}"
    installed = ", ".join(
        f"{name} {package_version(name)} (wanted {floor} or newer)" for name, floor in known.items()
    )
    reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
    return (
        f"{what} failed in the packages it needs ({reason}); installed are "
        f"{installed or 'none that pip knows of'}; run {command(extra, '-U ')}"
    )


def package_fault(error: BaseException | None) -> BaseException | None:
    """What of an error's causes is a package's: a part that is missing, or not in this version; else None."""
    while error is not None:
        if isinstance(error, ImportError) or (isinstance(error, AttributeError) and _of_a_package(error.obj)):
            return error
        error = error.__cause__
    return None


def _of_a_package(value: object) -> bool:
    return isinstance(value, ModuleType) and not value.__name__.startswith("vicrop_")


def command(extra: str, options: str = "") -> str:
    """What installs the extra."""
    extras = "cpu,build" if extra == "build" else extra
    return f"pip install {options}'{DISTRIBUTION}[{extras}]'"


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, up to what is none, without zeros at the end: 5.18.0.dev1 is 5.18."""
    numbers = [int(part) for part in re.match(r"[0-9.]*", version)[0].split(".") if part]  # type: ignore[index]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
