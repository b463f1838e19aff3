"""What a LLaVA-NeXT checkpoint says is read, and what the engine has nothing for is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer

from tests.engines import NEXTS, built_next
from tests.export.conftest import edit_json
from tests.export.families.test_smolvlm import plan_of
from tests.next_checkpoints import NextSpec, write_next_checkpoint
from vicrop_engine.engine_dir.manifest import EXTRA_ROWS
from vicrop_engine.engine_dir.records import Preprocessing, VisionGeometry
from vicrop_engine.errors import CheckpointError, SettingError
from vicrop_export.build import build_engine
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.families.table import read_family

SMALL = NextSpec(hidden=32, layers=2, vision_hidden=16, vision_layers=2)
ASKED = "\n{question} Answer the question using a single word or phrase."


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A whole small checkpoint of this test's own."""
    return write_next_checkpoint(tmp_path / "next", SMALL)


def test_a_plan_says_what_the_engine_has_to_know(written: Path) -> None:
    plan = plan_of(written)
    assert plan.family.name == "llava-next"
    assert plan.vision == VisionGeometry(56, 14, 4, 4, 16, 0)
    assert plan.images.settings == {"pinpoints": [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]}
    assert (plan.images.most_inputs, plan.images.most_tokens) == (5, 16 + 8 * 9)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    assert plan.preprocessing == Preprocessing("exact", 56, 56, 3, False, 56, 56, 1 / 255, mean, std)
    assert (plan.layers, plan.layer_source) == ((0,), "scaled, not measured")
    assert (plan.family.window, plan.begin, plan.end_tokens((2,))) == (56, 1, (2,))


def test_prompts_are_those_of_the_decoders_chat(written: Path, tmp_path: Path) -> None:
    prompts = plan_of(written).prompts
    assert prompts.question == f"[INST] <image>{ASKED} [/INST]"
    assert prompts.two_image_question == f"[INST] <image><image>{ASKED} [/INST]"
    vicuna = plan_of(write_next_checkpoint(tmp_path / "vicuna", replace(SMALL, kind="llama"))).prompts
    system = "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    assert vicuna.question.startswith(system)
    assert vicuna.question.endswith(f" USER: <image>{ASKED} ASSISTANT:")
    assert vicuna.general_question == "Write a general description of the image."


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("model.image_newline", "image_newline"),
        ("image_newline", "image_newline"),
        ("language_model.model.embed_tokens.weight", "language_model.embed_tokens.weight"),
        ("model.vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.pre_layrnorm.bias"),
    ],
)
def test_one_name_for_each_tensor(stored: str, name: str) -> None:
    assert canonical_name(stored) == name


@pytest.mark.parametrize("kind", NEXTS)
def test_the_newline_is_a_file_of_the_engine(kind: str) -> None:
    made = built_next(NEXTS[kind])
    stored: dict[str, Any] = {}
    for path in made.checkpoint.glob("*.safetensors"):
        stored |= load_file(path)
    [wanted] = [value for name, value in stored.items() if name.endswith("image_newline")]
    assert np.array_equal(np.load(made.engine / EXTRA_ROWS), wanted.numpy()[None])
    assert EXTRA_ROWS in made.manifest.files


def test_a_checkpoint_without_its_newline_is_refused(written: Path, tmp_path: Path) -> None:
    file = written / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if "newline" not in name}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="image_newline"):
        build_engine(written, tmp_path / "engine", name="x")


@pytest.mark.parametrize("sign", ["<|im_start|>", "<|start_header_id|>"])
def test_other_chats_are_refused(sign: str, written: Path) -> None:
    edit_json(written / "config.json", lambda config: config["text_config"].update(vocab_size=600))
    tokenizer = Tokenizer.from_file(str(written / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(sign, normalized=False, special=True)])
    tokenizer.save(str(written / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="Mistral's and Vicuna's chats alone"):
        plan_of(written)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image_grid_pinpoints": [[56, 100]]}, "wanted pairs of height and width, each a multiple of 56"),
        ({"image_grid_pinpoints": []}, "wanted pairs"),
        ({"vision_feature_select_strategy": "full"}, "is 'full', wanted 'default'"),
    ],
)
def test_what_the_graphs_lack_is_refused_by_name(values: dict[str, Any], words: str, written: Path) -> None:
    edit_json(written / "config.json", lambda document: document.update(values))
    with pytest.raises(CheckpointError, match=words):
        read_family(written)


PROCESSORS: dict[str, tuple[dict[str, Any], str]] = {
    "no resize": ({"do_resize": False}, "do_resize is False, wanted true"),
    "another size": ({"size": {"shortest_edge": 64}}, "size is .* wanted 56, the tower's"),
    "tiles of another size": ({"crop_size": {"height": 28, "width": 28}}, "crop_size is .* wanted 56"),
    "other pinpoints": ({"image_grid_pinpoints": [[56, 112]]}, "wanted those of config.json"),
    "another kind": ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor is not supported"),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_processors_that_cut_otherwise_are_refused(case: str, written: Path) -> None:
    values, words = PROCESSORS[case]
    edit_json(written / "preprocessor_config.json", lambda document: document.update(values))
    with pytest.raises(CheckpointError, match=words):
        plan_of(written)


def test_what_it_is_not_built_with_is_refused_before_any_work(written: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="pure-grad cannot be built for models of the family 'llava-next'"):
        build_engine(written, tmp_path / "engine", name="x", pure_grad=True)
    with pytest.raises(SettingError, match="max_pixels 9999"):
        build_engine(written, tmp_path / "engine", name="x", max_pixels=9999)
    with pytest.raises(
        SettingError, match="'tensorrt' cannot be built for models of the family 'llava-next'"
    ):
        build_engine(written, tmp_path / "engine", name="x", target="tensorrt", architectures=("sm_86",))
    assert not (tmp_path / "engine").exists()
