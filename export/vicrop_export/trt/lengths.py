"""The lengths a plan is compiled for: one optimisation profile each for decode, suffix and prefill.

The runtime takes the first that a pass fits. Knows an engine's geometry; nothing of TensorRT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vicrop_engine.engine_dir.records import DecoderGeometry, VisionGeometry
from vicrop_engine.errors import CheckpointError
from vicrop_export.modules.interfaces import PAST_AXIS, ROWS_AXIS, SEQ_AXIS, TOTAL_AXIS

PROMPT = 32  # tokens of a usual question
CONTEXT = 8192  # positions from which on an engine has no more than it is planned for
ROWS = 8  # suffixes that may be read in one pass
ALIGNMENT = 256  # bytes at whose multiples device memory begins, and so may all that plans are given


class Range(NamedTuple):
    """Least, usual and most size of a dynamic axis."""

    least: int
    usual: int
    most: int


DECODED = Range(1, 1, 2)  # were it 1 alone, plans would hold every float16 weight a second time for it
Lengths = Mapping[str, Range]
Sizes = Mapping[str, tuple[int, int, int]]


def planned_context(context: int, image_tokens: int) -> int:
    """Positions of an engine on plans: two pictures and text, of models that have far more.

    What a plan reserves grows with new tokens times all tokens.
    """
    return min(context, max(CONTEXT, 2 * image_tokens + CONTEXT // 4))


def plan_lengths(
    vision: VisionGeometry, decoder: DecoderGeometry, picture: Sizes | None = None
) -> tuple[Lengths, ...]:
    """Sizes of the dynamic axes of the graphs' inputs in each profile, the narrowest profile first.

    Those of a decoder, and of a vision graph's `picture`, which are the same in all.

    A pass has at most two pictures and half as much text as new tokens: what a plan reserves for its widest
    pass grows with new tokens times all tokens.
    """
    image, context = vision.image_tokens, decoder.context_length
    new = min(context, 2 * image + context // 4)
    usual = min(image + 2 * PROMPT, new)
    past = Range(1, min(2 * image, context - 1), context - 1)
    profiles = (
        _profile(DECODED, past, Range(0, 0, 1)),
        _profile(Range(1, usual, new), past, Range(0, 1, ROWS)),
        _profile(Range(1, usual, new), Range(0, 0, 0), Range(0, 2, ROWS)),
    )
    of_picture = {axis: Range(*sizes) for axis, sizes in (picture or {}).items()}
    return tuple({**profile, **of_picture} for profile in profiles)


def demand_aligned(decoder: DecoderGeometry, number_bytes: int) -> None:
    """Raises CheckpointError unless every token's keys begin where a plan may write."""
    row = decoder.num_kv_heads * decoder.head_dim * number_bytes
    if row % ALIGNMENT:
        raise CheckpointError(
            f"a token's keys take {row} bytes, wanted a multiple of {ALIGNMENT}: target 'tensorrt' writes "
            "them right after one another; choose another checkpoint, or --target cpu"
        )


def _profile(new: Range, past: Range, rows: Range) -> Lengths:
    total = Range(*(sum(pair) for pair in zip(new, past, strict=True)))
    return {SEQ_AXIS: new, PAST_AXIS: past, TOTAL_AXIS: total, ROWS_AXIS: rows}
