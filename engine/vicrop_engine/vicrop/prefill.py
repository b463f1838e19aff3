"""The pass over the picture: question, what to look with and the general prompt through the decoder at once.

The picture's own tokens go along where they are new. Leaves attention rows and the first answer's logits.
"""

from __future__ import annotations

from vicrop_engine.model.prompts import Prompt
from vicrop_engine.vicrop.request_state import PrefilledPrompts, RequestState


def prefill(state: RequestState) -> None:
    """Run the prompts that the state's targets need, once; nothing where they need none. Raises RunError."""
    if not state.targets.reads:
        return
    state.watch.enter("prefill")
    prompts = prompts_to_run(state)
    state.prompt_tokens += sum(len(prompt) for prompt in prompts)
    with state.model.alone_on(state.prefix):
        state.prefilled = _run(state, prompts)
        if state.prompts.general in prompts:
            rows = state.prefilled.rows(state.prompts.general)
            state.prefix.general.update({layer: state.patches(row).copy() for layer, row in rows.items()})


def _run(state: RequestState, prompts: tuple[Prompt, ...]) -> PrefilledPrompts:
    decoder, targets = state.model.decoder, state.targets
    gradients = targets.gradients and bool(targets.layers)
    output = decoder.prefill(
        state.prefix,
        [prompt.suffix for prompt in prompts],
        answer=targets.answer,
        layers=targets.layers,
        gradients=gradients,
    )
    if not gradients:
        return PrefilledPrompts(prompts, output)
    state.watch.enter("heatmap")
    looked_with = prompts.index(state.prompts.looked_with)  # whose rows decoding will write over
    return PrefilledPrompts(prompts, output, decoder.gradients(output, looked_with))


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
    if all(layer in state.prefix.general for layer in targets.layers):
        tally.add(general_hits=1)
        state.prompt_tokens += len(state.prompts.general)
    else:
        tally.add(general_prefills=1)
        prompts.append(state.prompts.general)
    return tuple(prompts)
