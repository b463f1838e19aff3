"""What the writing of weights says on the way."""

from __future__ import annotations

from vicrop_export.progress import WeightProgress


def test_layers_bytes_and_time_left_are_named_once_a_layer() -> None:
    heard: list[tuple[str, float]] = []
    progress = WeightProgress(lambda stage, share: heard.append((stage, share)), 4_000_000, 0.5, 0.9)
    progress.enter("decoder_lower")
    progress.add("language_model.layers.3.self_attn.q_proj.weight", 1_000_000)
    progress.add("language_model.layers.3.mlp.up_proj.weight", 1_000_000)
    progress.enter("decoder_upper")
    progress.add("lm_head.weight", 2_000_000)
    (first, share), (last, end) = heard
    assert first.startswith("writing decoder_lower: layer 3, 1 of 4 MB, ")
    assert first.endswith(" s left")
    assert last == "writing decoder_upper, 4 of 4 MB, 0 s left"
    assert (round(share, 6), round(end, 6)) == (0.6, 0.9)
