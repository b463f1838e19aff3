"""Runs the same question in turn without a crop, with it, and again on the same picture: what is measured.

Every run begins cold, but for the second question, which finds the first one's prefix. Knows the engine from
outside; nothing of stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vicrop_engine.counters import GraphRun
from vicrop_engine.engine import ViCropEngine
from vicrop_engine.errors import RunError
from vicrop_engine.images.picture import ImageInput
from vicrop_engine.timing import Span
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.localizers.methods import NONE
from vicrop_engine.vicrop.params import AskParams

PLAIN, CROPPED, NEXT, PUBLISHED = "plain", "cropped", "next", "published"
DECODE_IMAGE = "decode_image"
Clock = Callable[[], float]


@dataclass(frozen=True)
class Sample:
    """One run: what came of it, the stages it went through in order, and the graphs that ran meanwhile."""

    answer: Answer
    spans: tuple[Span, ...]
    runs: tuple[GraphRun, ...]


@dataclass(frozen=True)
class Case:
    """What is asked in every run; `params` are those of the answers with a crop."""

    image: ImageInput
    question: str
    params: AskParams


def measure(
    engine: ViCropEngine,
    case: Case,
    rounds: Iterable[int],
    published: Callable[[], Sample] | None = None,
) -> dict[str, list[Sample]]:
    """The samples of each flow, one a round, taken in turn; the first round warms up and is not kept.

    `published` takes its turn last, if it is given.

    Time is read from the engine's clock. Raises RunError when a flow does not answer alike in every round,
    and what `ask` raises.
    """
    samples: dict[str, list[Sample]] = {PLAIN: [], CROPPED: [], NEXT: []}
    for _ in rounds:
        engine.forget()
        plain = AskParams(method=NONE, max_new_tokens=case.params.max_new_tokens)
        samples[PLAIN].append(_sample(engine, case, plain))
        engine.forget()
        samples[CROPPED].append(_sample(engine, case, case.params))
        _forget_question(engine, case)
        samples[NEXT].append(_sample(engine, case, replace(case.params, first_answer=False)))
        if published is not None:
            samples.setdefault(PUBLISHED, []).append(published())
    engine.forget()
    for flow, taken in samples.items():
        _demand_alike(flow, [sample.answer for sample in taken])
    return {flow: taken[1:] for flow, taken in samples.items()}


def _forget_question(engine: ViCropEngine, case: Case) -> None:
    """As if another one about the picture had been asked, whose crop lies elsewhere."""
    if engine.manifest.instructed is None:
        engine.forget(prefixes=False)
        return
    engine.forget()  # of the prefix, too, which is this question's alone
    other = replace(case.params, first_answer=False, max_new_tokens=1)
    engine.answer(case.image, engine.manifest.prompts.general_question, other)


def _sample(engine: ViCropEngine, case: Case, params: AskParams) -> Sample:
    with engine.tally.watching() as runs:
        answer = engine.answer(case.image, case.question, params)
    decoding, *others = answer.spans
    return Sample(answer, (decoding._replace(stage=DECODE_IMAGE), *others), tuple(runs))


def _demand_alike(flow: str, answers: Sequence[Answer]) -> None:
    found = {(answer.token_ids, answer.first_token_ids, answer.crop_box) for answer in answers}
    if len(found) > 1:
        raise RunError(
            f"{len(answers)} runs of one question ({flow}) gave {len(found)} different answers or boxes, so "
            "their times mean nothing; report this"
        )
