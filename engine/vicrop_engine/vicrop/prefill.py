"""The pass over the picture: question, what to look with and the general prompt through the decoder at once.

The picture's own tokens go along where they are new. Prompts whose instruction gives the picture other tokens
have passes of their own. Leaves attention rows and the first answer's logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vicrop_engine.arrays import Floats
from vicrop_engine.model.kv_cache import roomy
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.prompts import Ids, Prompt
from vicrop_engine.vicrop.request_state import PrefilledPrompts, RequestState


def prefill(state: RequestState) -> None:
    """Run the prompts that the state's targets need, once; nothing where they need none. Raises RunError."""
    if not state.targets.reads:
        return
    state.watch.enter("prefill")
    prompts = prompts_to_run(state)
    state.prompt_tokens += sum(len(prompt) for prompt in prompts)
    first, *apart = [_run(state, beside) for beside in by_instruction(prompts)]
    state.prefilled = replace(first, apart=tuple(apart))
    if state.prompts.general in prompts:
        rows = state.rows_on_cells(state.prompts.general)
        with state.model.alone_on(state.kept):
            state.kept.general.update({layer: row.copy() for layer, row in rows.items()})


def by_instruction(prompts: Sequence[Prompt]) -> list[tuple[Prompt, ...]]:
    """The prompts that share a picture's tokens, and so a pass, in the order that they came."""
    found: dict[Ids | None, tuple[Prompt, ...]] = {}
    for prompt in prompts:
        found[prompt.instruction] = (*found.get(prompt.instruction, ()), prompt)
    return list(found.values())


def _run(state: RequestState, prompts: tuple[Prompt, ...]) -> PrefilledPrompts:
    """One pass; with gradients it goes on to those of the prompt to look with."""
    model, targets = state.model, state.targets
    prefix = (
        state.prefix if state.prompts.goes_beside(prompts[0]) else _sequence_of_its_own(state, prompts[0])
    )
    gradients = targets.gradients and bool(targets.layers) and state.prompts.looked_with in prompts
    with model.alone_on(prefix):
        output = model.decoder.prefill(
            prefix,
            [prompt.suffix for prompt in prompts],
            answer=targets.answer and state.prompts.question in prompts,
            layers=targets.layers,
            gradients=gradients,
        )
        if not gradients:
            return PrefilledPrompts(prompts, output, mixer=prefix.mixer)
        state.watch.enter("heatmap")
        looked_with = prompts.index(state.prompts.looked_with)  # whose rows decoding will write over
        found = model.decoder.gradients(output, looked_with)
    return PrefilledPrompts(prompts, output, found, _helpful(state))


def _helpful(state: RequestState) -> Floats | None:
    """What makes cells of the tokens' helpful attention, where tokens are no cells."""
    model, prompt = state.model, state.prompts.looked_with
    if model.helpful_looks is None:
        return None
    asked = state.seen.asked(prompt.instruction)
    return model.helpful_looks.helpful(asked.inputs, prompt, model.vision)


def _sequence_of_its_own(state: RequestState, prompt: Prompt) -> Prefix:
    """The picture's tokens for another instruction than the question's, kept nowhere."""
    state.watch.enter("vision")
    images = state.model.image_embeds([state.seen.asked(prompt.instruction)])
    state.watch.enter("prefill")
    return state.model.begin(prompt.prefix, images, roomy(len(prompt)))


def prompts_to_run(state: RequestState) -> tuple[Prompt, ...]:
    """The one to answer first, for it is to be continued; the general prompt last, if it is needed."""
    targets, tally = state.targets, state.model.tally
    prompts = [state.prompts.question] if targets.answer else []
    if not targets.layers:
        return tuple(prompts)
    if state.prompts.looked_with not in prompts:
        prompts.append(state.prompts.looked_with)
    if targets.gradients or targets.of_target:
        return tuple(prompts)
    if all(layer in state.kept.general for layer in targets.layers):
        tally.add(general_hits=1)
        state.prompt_tokens += len(state.prompts.general)
    else:
        tally.add(general_prefills=1)
        prompts.append(state.prompts.general)
    return tuple(prompts)
