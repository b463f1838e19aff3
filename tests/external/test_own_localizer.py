"""A localizer of the caller's own: the document's example, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.external.built import picture
from vicrop_engine import Localization, RequestState, ViCropEngine
from vicrop_engine.errors import LocalizerError, UnknownMethodError

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-a-localizer.md"
QUESTION = "What is written on the red sign?"


class Fixed:
    """Gives what it was made with."""

    def __init__(self, found: Any, layers: Any = ()) -> None:
        self.found, self.layers = found, layers

    def layers_read(self, size: tuple[int, int], window: int) -> Any:
        return self.layers

    def locate(self, state: RequestState) -> Any:
        return self.found


@pytest.fixture
def engine(engine_directory: Path) -> ViCropEngine:
    return ViCropEngine.load(engine_directory)


def test_the_documents_example_runs_and_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.S | re.M)
    assert len(program.splitlines()) < 40
    exec(compile(program, DOCUMENT.name, "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == "most-detail (300, 150, 375, 225)\n"


def test_its_box_is_the_crop(engine: ViCropEngine) -> None:
    image = picture((300, 200))
    own = engine.ask(image, QUESTION, method=Fixed(Localization("mine", (3, 4, 150, 160))))
    given = engine.ask(image, QUESTION, box=(3, 4, 150, 160))
    assert (own.method, own.crop_box) == ("mine", (3, 4, 150, 160))
    assert own.answer == given.answer
    assert own.token_ids == given.token_ids
    assert (own.heatmap, own.layers) == (None, ())


def test_it_may_read_attention(engine: ViCropEngine) -> None:
    class Sharpest(Fixed):
        def locate(self, state: RequestState) -> Localization:
            rows = state.question_rows()
            assert rows.shape[0] == 2
            shape = state.grid.rows, state.grid.cols
            heatmap = rows.mean(axis=(0, 1)).reshape(shape)
            box = np.int64(0), np.int64(0), *state.picture.size
            return Localization("sharpest", box, heatmap, (1, 3))

    answer = engine.ask(picture((300, 200)), QUESTION, method=Sharpest(None, (1, 3)))
    assert answer.layers == (1, 3)
    assert answer.heatmap is not None
    assert answer.to_json()["crop_box"] == [0, 0, 300, 200]
    assert all(type(side) is int for side in answer.crop_box or ())


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "gave NoneType, wanted a Localization"),
        (Localization("mine", (0, 0, 301, 200)), r"\(0, 0, 301, 200\).* 300 x 200"),
        (Localization("mine", (5, 5, 5, 9)), "inside the picture"),
        (Localization("mine", (0.5, 0, 9, 9)), "wanted whole numbers"),  # type: ignore[arg-type]
        (Localization("mine", (0, 0, 9)), "wanted whole numbers"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_place_is_refused(engine: ViCropEngine, found: Any, words: str) -> None:
    with pytest.raises(LocalizerError, match=f"Fixed.locate.*{words}") as caught:
        engine.ask(picture((300, 200)), QUESTION, method=Fixed(found))
    assert caught.value.exit_code == 2
    assert engine.ask(picture((300, 200)), QUESTION).crop_box is not None


@pytest.mark.parametrize("layers", [[1], (4,), (-1,), ("1",), None])
def test_layers_that_are_none_are_refused(engine: ViCropEngine, layers: Any) -> None:
    with pytest.raises(LocalizerError, match=r"Fixed.layers_read gave .*, wanted a tuple .* 0 to 3"):
        engine.ask(picture((300, 200)), QUESTION, method=Fixed(None, layers))


def test_what_is_no_localizer_is_refused(engine: ViCropEngine) -> None:
    with pytest.raises(UnknownMethodError, match="got int as method, wanted one of none, rel-att"):
        engine.ask(picture((300, 200)), QUESTION, method=3)  # type: ignore[arg-type]
