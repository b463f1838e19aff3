"""Which decoder layers a heatmap is read from, as people write it: 14, "10-20" or "all"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vicrop_engine.errors import LayerError

LayerChoice = int | str | Sequence[int]


def parse_layers(choice: LayerChoice, num_layers: int) -> tuple[int, ...]:
    """Layer indices in rising order, counted from 0; ranges include both ends.

    Raises LayerError when the text cannot be read or names a layer the decoder does not have.
    """
    layers = _indices(choice, num_layers)
    if not layers:
        raise LayerError("got no layers, wanted at least one; write 14, 10-20 or all")
    for layer in layers:
        if not 0 <= layer < num_layers:
            raise LayerError(
                f"layer {layer} does not exist; this model's layers count from 0 to {num_layers - 1}"
            )
    return tuple(sorted(set(layers)))


def scaled_layers(published: Sequence[int], num_layers: int, of: int = 32) -> tuple[int, ...]:
    """Layers that were published for a decoder of `of` layers, brought to another depth, each once."""
    return tuple(sorted({int((layer + 0.5) * num_layers / of) for layer in published}))


def _indices(choice: LayerChoice, num_layers: int) -> list[int]:
    if isinstance(choice, str):
        return _from_text(choice.strip().lower(), num_layers)
    if isinstance(choice, int) and not isinstance(choice, bool):
        return [choice]
    if isinstance(choice, (list, tuple)) and all(type(layer) is int for layer in choice):
        return list(choice)
    raise LayerError(f"got {choice!r} as layers; write 14, 10-20 or all")


def _from_text(text: str, num_layers: int) -> list[int]:
    if text == "all":
        return list(range(num_layers))
    match = re.fullmatch(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?", text)
    if match is None:
        raise LayerError(f"got {text!r} as layers; write 14, 10-20 or all")
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if last < first:
        raise LayerError(f"the layer range {text!r} runs backwards; write {last}-{first}")
    return list(range(first, min(last, max(first, num_layers)) + 1))
