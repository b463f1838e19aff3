"""What an answer has to say of its crop is said by `ask`, beside standard output."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run
from tests.engines import NEXTS, built_next
from tests.parity.family_checks import QUESTION, picture


def test_a_crop_that_does_not_fit_is_told(run: Run, tmp_path: Path) -> None:
    made, path = built_next(NEXTS["vicuna, one KV head, a small context"]), tmp_path / "square.png"
    picture("square").save(path)
    ran = run("ask", made.engine, path, QUESTION, "--json", "--max-new-tokens", "4")
    assert ran.status == 0
    assert json.loads(ran.out)["tokens"]["crop"] > 0
    assert ran.err.count("the crop is seen as one input, in 17 tokens") == 1
