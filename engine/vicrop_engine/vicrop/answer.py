"""What an ask gives back, and its JSON form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vicrop_engine.arrays import Heatmap
from vicrop_engine.images.geometry import Box
from vicrop_engine.model.prompts import TokenLogprob
from vicrop_engine.timing import Span


@dataclass(frozen=True)
class EngineInfo:
    """Which engine answered, and where it ran."""

    model: str
    precision: str
    provider: str


@dataclass(frozen=True)
class TokenCounts:
    """Prompt tokens run now, prompt tokens taken over from a KV cache instead, and tokens generated.

    `crop` of those run now are the crop's pass.
    """

    prefill: int
    reused: int
    decoded: int
    crop: int = 0


@dataclass(frozen=True)
class Answer:
    """One answered question.

    `crop_box` is x0, y0, x1, y1 in picture pixels after EXIF rotation, half open; None without a crop.
    The crop is black outside its `crop_parts`, boxes alike; where there are none, all of it was shown.
    `heatmap` is float32 [rows, cols] over `heatmap_box` (in picture pixels; it may reach beyond the
    picture, where cells are zero), None when the method made none or the picture fits one crop window.
    With `high_res` it was put together from the maps of `tiles`, boxes in picture pixels, row by row.
    `layers` are those it was read from. `confidence` is the geometric mean of the final answer's token
    probabilities, the end sign included. `timings` are seconds by stage with their sum "total", and `spans`
    the same in the order it went.
    Answers are equal where they say, crop and look at the same; arrays, times and counts are not compared.
    `token_ids` are the final answer's, and `first_token_ids` the first's, end sign included. `notices`
    are sentences about how picture and crop were read. `crop_skipped` says that the first answer was sure
    enough to be the final one, by `crop_worth`, 0 to 1: what the crop is worth, the most it can be where
    nothing was looked for; None where no answer was made before the crop. `target` is the thing that was
    looked for, by methods that look for one, and `target_from` who named it: "given", "noun phrase", "model",
    or "question", which is then all of it. `stopped` says that the final answer ends before a text that was
    to stop it, `first_stopped` that the first does. `logprobs` are the final answer's tokens where the form
    asked for them. Text alone has an `image_size` of (0, 0).
    """

    answer: str
    answer_without_crop: str | None
    method: str
    high_res: bool
    crop_box: Box | None
    image_size: tuple[int, int]
    heatmap: Heatmap | None = field(compare=False)
    heatmap_box: tuple[float, float, float, float] | None
    layers: tuple[int, ...]
    confidence: float = field(compare=False)  # of last bits, as the heatmap is
    timings: dict[str, float] = field(compare=False)
    tokens: TokenCounts = field(compare=False)  # of what was kept already
    engine: EngineInfo
    token_ids: tuple[int, ...] = ()
    first_token_ids: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()
    tiles: tuple[Box, ...] = ()
    crop_skipped: bool = False
    crop_worth: float | None = field(default=None, compare=False)  # of last bits, as the heatmap is
    spans: tuple[Span, ...] = field(default=(), compare=False)
    stopped: bool = False
    first_stopped: bool = False
    logprobs: tuple[TokenLogprob, ...] | None = field(default=None, compare=False)
    crop_parts: tuple[Box, ...] = ()
    target: str | None = None
    target_from: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The document `ask --json` prints."""
        return {
            "answer": self.answer,
            "answer_without_crop": self.answer_without_crop,
            "method": self.method,
            "high_res": self.high_res,
            "crop_box": None if self.crop_box is None else list(self.crop_box),
            **({"crop_parts": [list(part) for part in self.crop_parts]} if self.crop_parts else {}),
            "crop_skipped": self.crop_skipped,
            "crop_worth": None if self.crop_worth is None else round(self.crop_worth, 6),
            "image_size": list(self.image_size),
            "heatmap": None if self.heatmap is None else _heatmap_json(self.heatmap),
            "layers": list(self.layers),
            **({} if self.target is None else {"target": self.target, "target_from": self.target_from}),
            "confidence": round(self.confidence, 6),
            "timings": {stage: round(seconds, 6) for stage, seconds in self.timings.items()},
            "tokens": vars(self.tokens).copy(),
            "engine": vars(self.engine).copy(),
        }


def _heatmap_json(heatmap: Heatmap) -> dict[str, Any]:
    rows, cols = heatmap.shape
    values = [[float(f"{value:.7g}") for value in row] for row in heatmap.tolist()]
    return {"rows": rows, "cols": cols, "values": values}
