"""A question without a picture: the language model's answer, with nothing to look at and nothing to crop."""

from __future__ import annotations

from vicrop_engine.counters import Counters
from vicrop_engine.errors import QuestionError
from vicrop_engine.images.cache import Source
from vicrop_engine.images.seen import Way
from vicrop_engine.model.answers.greedy import Generation, OnTokens
from vicrop_engine.model.kv_cache import roomy
from vicrop_engine.model.model import Model
from vicrop_engine.model.prompts import Prompt
from vicrop_engine.timing import Stopwatch
from vicrop_engine.vicrop.answer import Answer, EngineInfo, TokenCounts
from vicrop_engine.vicrop.ask import check_whole, logprobs_of
from vicrop_engine.vicrop.fitting import fitted
from vicrop_engine.vicrop.localizers.methods import NONE
from vicrop_engine.vicrop.params import ALL, AskParams
from vicrop_engine.vicrop.request import Request

TEXT_ALONE = Source(b"", b"text alone", (0, 0), "no picture")


def plan_text(model: Model, question: str, params: AskParams) -> Request:
    """What this model does about a question without a picture; settings that say how to look mean nothing.

    Raises QuestionError and SettingError where it cannot be asked.
    """
    form, way = params.answer_form, Way()
    request = Request(
        asked=question,
        localize=None,
        localizer=None,
        first_answer=True,
        compat=False,
        box=None,
        high_res="off",
        max_new_tokens=params.max_new_tokens,
        crop_tokens=ALL,
        picture_way=way,
        crop_way=way,
        auto_side=0,
        side_by_side=False,
        history=tuple(params.history),
        form=form,
        rules=model.prompts.rules(form),
    )
    request = fitted(model, request, None)
    model.prompts.check(request.question)
    request.check_text(model)
    return request


def run_text(model: Model, request: Request, watch: Stopwatch, on_tokens: OnTokens = None) -> Answer:
    """The answer to text alone; `on_tokens` is told its ids as they come. Raises RunError."""
    before, prompt = model.tally.snapshot(), model.prompts.text_alone(request.question)
    if not prompt.suffix:
        raise QuestionError("the question makes no prompt; ask something")
    watch.enter("prefill")
    prefix = model.decoder.begin(prompt.prefix, (), roomy(len(prompt) + request.max_new_tokens))
    with model.locked(prefix):
        with model.alone_on(prefix):
            output = model.decoder.prefill(prefix, [prompt.suffix])
        watch.enter("decode")
        made = model.decoder.decode(output, request.max_new_tokens, on_tokens, request.rules)
    return _answer(model, request, prompt, made, before, watch)


def _answer(
    model: Model, request: Request, prompt: Prompt, made: Generation, before: Counters, watch: Stopwatch
) -> Answer:
    check_whole(made)
    text, manifest = model.prompts.decode(made.ids, request.form), model.manifest
    after = model.tally.snapshot()
    run = after.lower_tokens - before.lower_tokens - (after.decode_steps - before.decode_steps)
    return Answer(
        answer=text,
        answer_without_crop=text,
        method=NONE,
        high_res=False,
        crop_box=None,
        image_size=TEXT_ALONE.size,
        heatmap=None,
        heatmap_box=None,
        layers=(),
        confidence=made.confidence,
        timings=watch.finish(),
        tokens=TokenCounts(prefill=run, reused=len(prompt) - run, decoded=len(made.ids)),
        engine=EngineInfo(manifest.model.name, manifest.precision, model.provider),
        token_ids=made.ids,
        first_token_ids=made.ids,
        notices=request.notices,
        spans=tuple(watch.spans),
        stopped=model.prompts.is_cut(made.ids, request.form),
        first_stopped=model.prompts.is_cut(made.ids, request.form),
        logprobs=logprobs_of(model, request, made),
    )
