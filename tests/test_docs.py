"""The pages: what they name exists, each says which question it answers, and the README stays short."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.test_import_rules import FOLDERS, ROWS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NAMING = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *PAGES]
KINDS = (".py", ".md", ".sh", ".toml", ".cff")  # what only this repository's own files end with
MOST_LINES, MOST_WORDS = 110, 1000
WORD = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
DOTTED = re.compile(r"\b(?:vicrop_engine|vicrop_export|vicrop_kernels)(?:\.\w+)+")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_of(text: str) -> str:
    """Everything in backticks, fenced or not."""
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.S | re.M)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.S | re.M))
    return "\n".join([*fenced, *inline])


def paths_in(text: str) -> set[str]:
    """Words in backticks that are paths of this repository.

    They begin with a folder of its root, end as only its own files do, or have a slash at the end.
    """
    words = {word.strip("(),;'\"").split(":")[0].rstrip(".") for word in code_of(text).split()}
    return {
        word
        for word in words
        if WORD.fullmatch(word)
        and (word.endswith((*KINDS, "/")) or word.partition("/")[0] in folders_of_root())
    }


def folders_of_root() -> set[str]:
    """All but those that git leaves out, which are not in every checkout."""
    left_out = {line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()}
    return {path.name for path in ROOT.iterdir() if path.is_dir()} - left_out


def links_in(text: str) -> set[str]:
    """Targets of links and pictures that are no addresses of the web."""
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return {target.split("#")[0] for target in found if not re.match(r"[a-z]+:|#", target)}


def exists(path: str, folders: set[str]) -> bool:
    """A path from the root; a bare name may be that of a file in a folder that the page names."""
    if (ROOT / path).exists():
        return (ROOT / path).is_dir() or not path.endswith("/")
    return "/" not in path and any((ROOT / folder / path).is_file() for folder in folders)


def missing_from(text: str) -> set[str]:
    paths = paths_in(text)
    folders = {path for path in paths if path.endswith("/") and (ROOT / path).is_dir()}
    return {path for path in paths if not exists(path, folders)}


@pytest.mark.parametrize("page", NAMING, ids=name_of)
def test_paths_that_a_page_names_exist(page: Path) -> None:
    assert not missing_from(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", NAMING, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = links_in(page.read_text(encoding="utf-8"))
    assert not {link for link in links if not (page.parent / link).exists()}


@pytest.mark.parametrize("page", NAMING, ids=name_of)
def test_modules_that_a_page_names_exist(page: Path) -> None:
    """By their dotted name, with or without a name that stands in them."""
    for dotted in DOTTED.findall(code_of(page.read_text(encoding="utf-8"))):
        assert is_module(dotted) or has_name(*dotted.rpartition(".")[::2]), dotted


def file_of(module: str) -> Path | None:
    folder = ROOT / FOLDERS[module.split(".")[0]] / module.replace(".", "/")
    places = folder.with_suffix(".py"), folder / "__init__.py"
    return next((place for place in places if place.is_file()), None)


def is_module(dotted: str) -> bool:
    return file_of(dotted) is not None


def has_name(module: str, name: str) -> bool:
    file = file_of(module)
    return file is not None and re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")) is not None


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`tests/engine/test_when.py`", {"tests/engine/test_when.py"}),
        ("run `python benchmarks/no_such.py --runs 3`", {"benchmarks/no_such.py"}),
        ("```sh\npython scripts/gone.py\n```", {"scripts/gone.py"}),
        ("`engine/vicrop_engine/tools/`", {"engine/vicrop_engine/tools/"}),
        ("`localizers/methods.py`", {"localizers/methods.py"}),
        ("`scheduler.py`", {"scheduler.py"}),
        ("`scheduler.py` in `engine/vicrop_engine/serving/`", set()),
        ("`turns.py` in `engine/vicrop_engine/serving/`", {"turns.py"}),
        ("`docs/overlay.png/`", {"docs/overlay.png/"}),
        ("`tests/no_such.py::test_one`, `(scripts/gone.py)`", {"tests/no_such.py", "scripts/gone.py"}),
        ("`openai/clip-vit-base-patch16`, `application/json`, `/metrics`, `vicrop-demo/overlay.png`", set()),
    ],
)
def test_a_path_that_is_not_there_is_found(text: str, missing: set[str]) -> None:
    assert missing_from(text) == missing


def test_links_are_told_from_addresses() -> None:
    text = "[a](b.md#c), ![d](e.png), [f](https://g.h/i.md), [j](#k)"
    assert links_in(text) == {"b.md", "e.png"}


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert len(text.split()) <= MOST_WORDS


def test_the_readme_s_commands_are_the_demo_and_the_tests() -> None:
    """Its first two blocks of bash are run by machines."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    demo, tests = re.findall(r"^```bash\n(.*?)^```$", text, re.S | re.M)
    assert demo.splitlines()[-1] == "vicrop-engine demo"
    assert tests.splitlines()[-1] == "pytest -q -n 2 --dist loadfile"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_begins_with_its_name_and_the_question_it_answers(page: Path) -> None:
    first = page.read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(r"# [^:?]+: [a-z][^?]*\?", first), first


def test_every_page_is_in_the_index() -> None:
    index = DOCS / "README.md"
    assert {page.name for page in PAGES} - {index.name} <= links_in(index.read_text(encoding="utf-8"))


def table_of(text: str, package: str) -> list[set[str]]:
    """The rooms of a package as architecture.md lists them, row 0 first."""
    part = text.split(f"`{FOLDERS[package]}/{package}/`", 1)[1]
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \|", part.split("\n\n", 2)[1], re.M)
    assert [int(number) for number, _ in rows] == list(range(len(rows)))[::-1]
    return [set(re.findall(r"`(\w+)`", rooms)) for _, rooms in reversed(rows)]


@pytest.mark.parametrize("package", ROWS)
def test_the_tables_of_rooms_are_the_rule_that_is_enforced(package: str) -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert table_of(text, package) == list(ROWS[package])


def test_the_drawing_can_be_read_as_text_and_has_every_room() -> None:
    drawing = ElementTree.parse(DOCS / "architecture.svg").getroot()
    space = {"svg": "http://www.w3.org/2000/svg"}
    for kind in ("title", "desc"):
        assert (drawing.findtext(f"svg:{kind}", namespaces=space) or "").strip()
    words = {word for text in drawing.iterfind(".//svg:text", space) for word in (text.text or "").split()}
    assert set().union(*(rooms for rows in ROWS.values() for rooms in rows)) <= words


def test_the_citation_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_commits_are_checked_as_changes_are() -> None:
    """What .ci/run runs beside the tests, pre-commit runs too."""
    ran = re.findall(r"^\.venv/bin/(.+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert ran
    assert re.findall(r"^\s+entry: (.+)$", hooks, re.M) == ran
