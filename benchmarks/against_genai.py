"""Plain decoding against onnxruntime-genai: prefill and decode of one decoder at one shape, in turn.

    python -m venv genai && genai/bin/pip install onnxruntime-genai torch transformers onnx onnx-ir
    python benchmarks/against_genai.py --genai genai/bin/python --precision fp32 int4

Both build the language model of the mid-size checkpoint of setting.py (12 layers of width 1024,
random weights), int4 in blocks of 128 at accuracy level 4. Each run is a process of its own, on one core
unless told otherwise: 600 tokens of prefill, then 40 decode steps. Medians of tokens per second of processor
time and of the clock are printed, then the ratio of ours to theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
PREFILL, STEPS, WARM = 600, 40, 3
BUILDER = "onnxruntime_genai.models.builder"
INT4 = ("--extra_options", "block_size=128", "accuracy_level=4")
Rates = dict[str, float]
State = TypeVar("State")


def main() -> None:
    """Build what is missing, run in turn, print medians."""
    options = _options()
    if options.run:
        print(
            json.dumps(
                {"ours": run_ours, "theirs": run_theirs}[options.run](options.directory, options.threads)
            )
        )
        return
    directory = options.directory or Path(tempfile.mkdtemp(prefix="vicrop-against-genai-"))
    for precision in options.precision:
        ours, theirs = _build(directory, precision, options.genai)
        runs: dict[str, list[Rates]] = {"ours": [], "theirs": []}
        for _ in range(options.runs):
            runs["ours"].append(_process(sys.executable, "ours", ours, options.threads))
            runs["theirs"].append(_process(options.genai, "theirs", theirs, options.threads))
        for name in runs["ours"][0]:
            mine, other = (statistics.median(run[name] for run in runs[side]) for side in runs)
            print(
                f"{precision} {name}: {mine:.1f} tokens/s, onnxruntime-genai {other:.1f}: {mine / other:.2f}x"
            )


def run_ours(engine_directory: Path, threads: int) -> Rates:
    """Tokens per second of the engine's decoder."""
    import dataclasses

    from vicrop_engine import ViCropEngine
    from vicrop_engine.model.decoder import HostDecoder
    from vicrop_engine.model.interfaces import Prefilled
    from vicrop_engine.model.states import of_kind
    from vicrop_engine.runtime.heap import wait_until_settled

    engine = ViCropEngine.load(engine_directory, threads=threads, cache_bytes=0)
    wait_until_settled()
    decoder = of_kind(HostDecoder, engine.model.decoder)
    decoder._tokens = dataclasses.replace(decoder._tokens, eos=())  # decode to the end, whatever comes
    ids = [5 + index % 200 for index in range(PREFILL)]

    def prefill() -> Prefilled:
        return decoder.prefill(decoder.begin(ids[:300], (), PREFILL + STEPS + 1), [ids[300:]])

    return _rates(prefill, lambda start: decoder.decode(start, STEPS + 1))


def run_theirs(model_directory: Path, threads: int) -> Rates:
    """Tokens per second of onnxruntime-genai's own runtime."""
    import onnxruntime_genai as genai

    path = model_directory / "genai_config.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    session = document["model"]["decoder"]["session_options"]
    session.update(intra_op_num_threads=threads)
    path.write_text(json.dumps(document), encoding="utf-8")
    model = genai.Model(str(model_directory))
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(
        max_length=PREFILL + STEPS + 2, min_length=PREFILL + STEPS + 2, do_sample=False
    )
    ids = [5 + index % 200 for index in range(PREFILL)]

    def prefill() -> Any:
        generator = genai.Generator(model, parameters)
        generator.append_tokens(ids)
        generator.generate_next_token()
        return generator

    def decode(generator: Any) -> None:
        for _ in range(STEPS):
            generator.generate_next_token()

    return _rates(prefill, decode)


def _rates(prefill: Callable[[], State], decode: Callable[[State], object]) -> Rates:
    measured: dict[str, list[float]] = {}
    for _ in range(WARM + 2):
        start, cpu = time.perf_counter(), time.process_time()
        state = prefill()
        middle, cpu_middle = time.perf_counter(), time.process_time()
        decode(state)
        end, cpu_end = time.perf_counter(), time.process_time()
        for name, seconds in (
            ("prefill by the clock", PREFILL / (middle - start)),
            ("prefill by processor time", PREFILL / (cpu_middle - cpu)),
            ("decode by the clock", STEPS / (end - middle)),
            ("decode by processor time", STEPS / (cpu_end - cpu_middle)),
        ):
            measured.setdefault(name, []).append(seconds)
    return {name: statistics.median(values[WARM - 1 :]) for name, values in measured.items()}


def _build(directory: Path, precision: str, genai: str) -> tuple[Path, Path]:
    """Engine and onnxruntime-genai model of one decoder, built unless they are there."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.setting import MID_SIZE
    from tests.checkpoints import write_checkpoint
    from vicrop_export.build import build_engine

    checkpoint, engine = directory / "checkpoint", directory / f"engine-{precision}"
    if not (checkpoint / "model.safetensors").exists():
        write_checkpoint(checkpoint, MID_SIZE)
    if not engine.exists():
        build_engine(checkpoint, engine, name="llava-signs", layers=0, precision=precision)
    language, theirs = directory / "language-model", directory / f"genai-{precision}"
    if not (language / "config.json").exists():
        _write_language_model(checkpoint, language)
    if not theirs.exists():
        command = [genai, "-m", BUILDER, "-i", str(language), "-o", str(theirs), "-p", precision, "-e", "cpu"]
        extra = (*INT4,) if precision == "int4" else ()
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        subprocess.run([*command, "-c", str(directory / "cache"), *extra], check=True, env=environment)
    return engine, theirs


def _write_language_model(checkpoint: Path, output: Path) -> None:
    """The checkpoint's decoder alone, as transformers saves it."""
    from transformers import AutoTokenizer, LlamaConfig, LlavaForConditionalGeneration
    from transformers.models.llama import LlamaForCausalLM

    llava = LlavaForConditionalGeneration.from_pretrained(checkpoint)
    text = llava.config.text_config
    assert isinstance(text, LlamaConfig), "the mid-size checkpoint is a Llama"
    model = LlamaForCausalLM(text)
    model.model.load_state_dict(llava.model.language_model.state_dict())
    model.lm_head.load_state_dict(llava.lm_head.state_dict())
    model.save_pretrained(output)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(output)


def _process(python: str, side: str, directory: Path, threads: int) -> Rates:
    command = [python, "-W", "ignore", __file__, "--run", side, "--directory", str(directory)]
    done = subprocess.run(
        [*command, "--threads", str(threads)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ.copy(),
    )
    rates: Rates = json.loads(done.stdout.splitlines()[-1])
    return rates


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--genai", default="python", help="a Python with onnxruntime-genai, torch, transformers"
    )
    parser.add_argument("--precision", nargs="+", default=["fp32", "int4"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="keep what is built here and use it again")
    parser.add_argument("--run", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
