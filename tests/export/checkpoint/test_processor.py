"""The image processor as settings, from either file, and processors that do something else refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import CLIP_MEAN, CLIP_STD, write_checkpoint
from tests.export.conftest import SMALL, edit_json
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.errors import CheckpointError
from vicrop_export.families.llava.processor import read_preprocessing

SIDE = SMALL.image_size
MEAN, STD = (CLIP_MEAN[0], CLIP_MEAN[1], CLIP_MEAN[2]), (CLIP_STD[0], CLIP_STD[1], CLIP_STD[2])
CENTRE = Preprocessing("shortest_edge", SIDE, SIDE, 3, True, SIDE, SIDE, 1 / 255, MEAN, STD, fit="pad")
KINDS: dict[str, Preprocessing] = {
    "centre_crop": CENTRE,
    "exact": replace(CENTRE, resize="exact", center_crop=False, fit="processor"),
    "pad": replace(CENTRE, pad_to_square=True, fit="processor"),
}
CHANGED: dict[str, tuple[dict[str, Any], Preprocessing]] = {
    "no normalising": ({"do_normalize": False}, replace(CENTRE, mean=(0.0,) * 3, std=(1.0,) * 3)),
    "no rescaling": ({"do_rescale": False}, replace(CENTRE, rescale_factor=1.0)),
    "bilinear": ({"resample": 2}, replace(CENTRE, resample=2)),
    "no resize": ({"do_resize": False}, replace(CENTRE, resize="none")),
    "one number for all colours": (
        {"image_mean": [0.5] * 3, "image_std": [0.25] * 3},
        replace(CENTRE, mean=(0.5,) * 3, std=(0.25,) * 3),
    ),
    "a stretch that loses its edge": (
        {"size": {"height": 60, "width": 64}},
        replace(CENTRE, resize="exact", height=60, width=64, fit="stretch"),
    ),
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another size": (
        {"crop_size": {"height": 64, "width": 70}},
        "makes 70 x 64 pixels, and .* takes 56 x 56",
    ),
    "no one size": ({"do_center_crop": False}, "makes pictures of any shape, and .* takes 56 x 56"),
    "longest edge": ({"size": {"longest_edge": 56}}, r"resizes to \{'longest_edge': 56\}; wanted 'shortest"),
    "tiles": (
        {"image_processor_type": "LlavaNextImageProcessor"},
        "LlavaNextImageProcessor is not supported; wanted CLIPImageProcessor or LlavaImageProcessor",
    ),
    "padding of another kind": ({"do_pad": True}, "CLIPImageProcessor is not supported"),
    "unknown": ({"image_processor_type": "NoProcessor"}, "transformers cannot load the image processor"),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_each_kind_in_either_file(kind: Any, nested: bool, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, replace(SMALL, processor=kind, nested_processor=nested))
    assert (tmp_path / "preprocessor_config.json").exists() != nested
    assert read_preprocessing(tmp_path, SIDE) == KINDS[kind]


@pytest.mark.parametrize("case", CHANGED)
def test_settings_that_were_changed(case: str, checkpoint: Path) -> None:
    values, wanted = CHANGED[case]
    edit_json(checkpoint / "preprocessor_config.json", lambda document: document.update(values))
    assert read_preprocessing(checkpoint, SIDE) == wanted


@pytest.mark.parametrize("case", REFUSED)
def test_processors_that_do_something_else(case: str, checkpoint: Path) -> None:
    values, words = REFUSED[case]
    edit_json(checkpoint / "preprocessor_config.json", lambda document: document.update(values))
    with pytest.raises(CheckpointError, match=words) as caught:
        read_preprocessing(checkpoint, SIDE)
    assert len(str(caught.value)) < 500


def test_damaged_settings(checkpoint: Path) -> None:
    (checkpoint / "preprocessor_config.json").write_text("{")
    with pytest.raises(
        CheckpointError, match=r"cannot load the image processor .*; wanted CLIPImageProcessor or Llava"
    ):
        read_preprocessing(checkpoint, SIDE)
