"""Layers as people write them."""

from __future__ import annotations

import pytest

from vicrop_engine.engine_dir.layer_choice import LayerChoice, parse_layers
from vicrop_engine.errors import LayerError


@pytest.mark.parametrize(
    ("choice", "layers"),
    [
        (14, (14,)),
        ("14", (14,)),
        (" 3 ", (3,)),
        ("10-12", (10, 11, 12)),
        ("10 - 12", (10, 11, 12)),
        ("7-7", (7,)),
        ("all", tuple(range(16))),
        ("ALL", tuple(range(16))),
        ((3, 1, 3), (1, 3)),
        ([0], (0,)),
    ],
)
def test_choices(choice: LayerChoice, layers: tuple[int, ...]) -> None:
    assert parse_layers(choice, 16) == layers


@pytest.mark.parametrize(
    "choice", ["", "x", "1,2", "-1", "1-", "1-2-3", "1.5", True, 1.5, [True], [1.5], None]
)
def test_what_cannot_be_read(choice: LayerChoice) -> None:
    with pytest.raises(LayerError, match="write 14, 10-20 or all"):
        parse_layers(choice, 16)


@pytest.mark.parametrize(
    ("choice", "layer"), [(16, 16), ("16", 16), (-1, -1), ("10-99999", 16), ([0, 20], 20)]
)
def test_layers_the_decoder_does_not_have(choice: LayerChoice, layer: int) -> None:
    with pytest.raises(
        LayerError, match=f"layer {layer} does not exist; this model's layers count from 0 to 15"
    ):
        parse_layers(choice, 16)


def test_backwards_and_none() -> None:
    with pytest.raises(LayerError, match="write 2-5"):
        parse_layers("5-2", 16)
    with pytest.raises(LayerError, match="at least one"):
        parse_layers([], 16)
