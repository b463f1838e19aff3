"""A small fixed input through all graphs of an engine, to hold what they give on one machine against another.

It is a picture of noise through the vision tower, then a prompt of a few of its embeddings between tokens
through all layers, with the heatmap layers' attention, and two decode steps: of a model of 7 billion
parameters a second or two. An engine brings what its graphs gave where they were built; the first time it is
opened on another processor or ONNX Runtime they are asked again.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import PROBE, Manifest, remedy_command
from vicrop_engine.errors import EngineDamagedError, ProbeError
from vicrop_engine.families.interfaces import Family
from vicrop_engine.images.seen import VisionInputs
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.interfaces import Decoder, VisionTower
from vicrop_engine.model.model import Model
from vicrop_engine.model.states import ImageEmbeds, of_kind, on_host
from vicrop_engine.model.vision import HostVisionTower
from vicrop_engine.runtime.proofs import Proof, is_proven, remember, this_machine

Outputs = dict[str, Floats]
BEFORE, AFTER, IMAGE_TOKENS, STEPS = 4, 12, 32, 2
SLACK = 4  # of a tolerance over what was measured where the engine was built


@dataclass(frozen=True)
class ProbeInput:
    """A picture of noise around zero; token ids before and after the image's, and of the steps.

    `offsets` [axes, tokens] is where the picture's tokens stand, None where they are counted.
    """

    inputs: VisionInputs
    ids: tuple[int, ...]
    offsets: Ints | None = None

    @property
    def before(self) -> tuple[int, ...]:
        """The prompt's tokens before those of the image."""
        return self.ids[:BEFORE]

    @property
    def after(self) -> tuple[int, ...]:
        """The prompt's tokens after those of the image."""
        return self.ids[BEFORE:-STEPS]

    @property
    def steps(self) -> tuple[int, ...]:
        """The tokens of the decode steps."""
        return self.ids[-STEPS:]

    @classmethod
    def of(cls, manifest: Manifest, family: Family) -> ProbeInput:
        """The same for every engine of these sizes, with NumPy's generator that never changes."""
        random = np.random.RandomState(0)
        seen = family.noise(random)
        ids = random.randint(0, manifest.decoder.vocab_size - 1, BEFORE + AFTER + STEPS)
        others = tuple(int(id) + (id >= manifest.tokens.image) for id in ids)
        return cls(seen.inputs, others, seen.layout.positions)

    def moved(self, by: float, seed: int) -> ProbeInput:
        """The same input, each pixel moved by some share of itself, `by` at most."""
        random, arrays = np.random.RandomState(seed), {}
        for name, array in self.inputs.arrays.items():
            is_float = np.issubdtype(array.dtype, np.floating)
            share = random.uniform(-by, by, array.shape) if is_float else 0
            arrays[name] = (array * (1 + share)).astype(array.dtype)
        return replace(self, inputs=replace(self.inputs, arrays=arrays))

    def shown(self, embeds: Floats) -> ImageEmbeds:
        """At most IMAGE_TOKENS of a picture's embeddings [1 + added, tokens, hidden], from first to last."""
        tokens = embeds.shape[1]
        kept = np.linspace(0, tokens - 1, min(IMAGE_TOKENS, tokens)).astype(int)
        offsets = None if self.offsets is None else self.offsets[:, kept]
        return ImageEmbeds(embeds[:, kept], offsets)


def run_probe(vision: VisionTower, decoder: Decoder, given: ProbeInput, manifest: Manifest) -> Outputs:
    """`image_embeds` of some image tokens, `attention` [layers, heads, total], `logits` [1 + steps, vocab].

    Nothing is kept and nothing counted. Raises RunError.
    """
    tower = of_kind(HostVisionTower, vision).counted_by(Tally())
    host = of_kind(HostDecoder, decoder).counted_by(Tally())
    shown = given.shown(tower.run([given.inputs])[0])
    embeds = on_host(shown.states)
    ids = (*given.before, *(manifest.tokens.image,) * embeds.shape[1])
    prefix = host.begin(ids, [shown], len(ids) + len(given.after) + len(given.steps))
    output = host.prefill(prefix, [given.after], layers=manifest.crop.layers)
    rows, length = output.rows(0), output.cache.length
    logits, steps = [host.logits(output)], host.steps(output.cache.buffers)
    for number, id in enumerate(given.steps):
        row, position = host.table.embed([id])[0, 0], output.next_position + number
        logits.append(steps.after(row, length + number, position).copy())
    attention = np.stack([rows[layer] for layer in manifest.crop.layers])
    flat = embeds.reshape(-1, embeds.shape[-1])
    return {"image_embeds": flat, "attention": attention, "logits": np.stack(logits)}


def prove_once(model: Model, directory: Path) -> None:
    """`prove`, unless this engine was proven on such a processor and ONNX Runtime, or has no probe."""
    if model.manifest.probe is not None and not is_proven(directory, model.manifest):
        prove(model, directory)


def prove(model: Model, directory: Path) -> None:
    """Compare what the graphs give here with what they gave where they were built, and remember it.

    Raises ProbeError, and EngineDamagedError for an engine without a probe that can be read.
    """
    manifest = model.manifest
    wanted, probed = read_outputs(directory, manifest), manifest.probe
    assert probed is not None, "the manifest of an engine with a probe says so"
    given = ProbeInput.of(manifest, model.family)
    found = distances(run_probe(model.vision, model.decoder, given, manifest), wanted)
    here = this_machine()
    for name, distance in found.items():
        if not distance <= probed.tolerances[name]:
            raise ProbeError(
                f"{directory}: on this processor ({here.processor}; ONNX Runtime {here.onnxruntime}) "
                f"{name.replace('_', ' ')} are {distance:.1e} from those where the engine was built "
                f"({probed.processor}; {probed.onnxruntime}), wanted at most {probed.tolerances[name]:.1e}; "
                f"{remedy_command(manifest)} here, or open it all the same with --no-probe"
            )
    remember(directory, Proof(here.processor, here.onnxruntime, found))


def read_outputs(directory: Path, manifest: Manifest) -> Outputs:
    """What the engine's probe gave where it was built. Raises EngineDamagedError."""
    path = directory / PROBE
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            outputs = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise EngineDamagedError(f"{path} cannot be read ({error}); {remedy_command(manifest)}") from error
    tolerances = {} if manifest.probe is None else manifest.probe.tolerances
    if set(outputs) != set(tolerances):
        raise EngineDamagedError(
            f"{path} holds {sorted(outputs)} and the manifest expects {sorted(tolerances)}; "
            f"{remedy_command(manifest)}"
        )
    return outputs


def distances(got: Outputs, wanted: Outputs) -> dict[str, float]:
    """By output, the largest difference in units of the root mean square of what was wanted."""
    return {name: _distance(got[name], wanted[name]) for name in wanted}


def _distance(got: Floats, wanted: Floats) -> float:
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    scale = float(np.sqrt(np.mean(np.square(wanted, dtype=np.float64))))
    return float(np.abs(got - wanted).max()) / max(scale, float(np.finfo(np.float32).tiny))
