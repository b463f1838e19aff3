"""What an engine gives in some hundred settings, to the last bit, so that two commits can be compared.

    python scripts/answers_of_settings.py before.json          # at one commit
    python scripts/answers_of_settings.py after.json --against before.json

Each setting is asked in a fresh order of the same pictures by `ask`, `locate`, `ask_batch` and a server over
HTTP: answers, boxes, token ids, token counts, a hash of the heatmap's bytes and, where one request is made at
a time, every counter. Uses the public interface alone. Exits with 1 and names what differs.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import io
import itertools
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vicrop_engine import ViCropEngine
from vicrop_engine.errors import ViCropError

Settings = dict[str, Any]
QUESTION = "What digit is on the red sign?"
SHORT = "the red sign"


def main() -> int:
    """Write the document, compare it where told to."""
    options = _options()
    pictures = _pictures()
    engine = ViCropEngine.load(options.engine, threads=1, provider=options.provider)
    document = {
        "ask": asked(engine, pictures, settings()),
        "locate": located(engine, pictures),
        "ask_batch": batched(engine, pictures),
    }
    if options.provider is None:
        document["serve"] = served(options.engine, pictures)
    options.out.write_text(json.dumps(document, indent=1), encoding="utf-8")
    print(", ".join(f"{len(each)} of {name}" for name, each in document.items()))
    if options.against is None:
        return 0
    return compared(json.loads(options.against.read_text(encoding="utf-8")), document)


def settings() -> list[Settings]:
    """The settings of `ask`: products of those that act on each other, and the others one by one."""
    heatmaps = [
        {"method": method, "high_res": high_res, "compat": compat, "first_answer": first}
        for method, high_res, compat, first in itertools.product(
            ("rel-att", "grad-att", "pure-grad"), ("off", "on", "auto"), (None, "mllms-know"), (True, False)
        )
    ]
    looks = [
        {"method": method, "localize": localize, "crop_tokens": tokens, "first_answer": first}
        for method, localize, tokens, first in itertools.product(
            ("rel-att", "grad-att", "pure-grad"), (None, SHORT), ("all", 10), (True, False)
        )
    ]
    others: list[Settings] = [
        {"method": "none"},
        {"method": "none", "max_new_tokens": 1},
        {"box": (20, 30, 160, 170)},
        {"box": (20, 30, 160, 170), "first_answer": False},
        {"box": (20, 30, 160, 170), "crop_tokens": 5},
        {"when": "never"},
        {"when": "auto"},
        {"when": "auto", "first_answer": False},
        {"when": "auto", "high_res": "on"},
        {"when": "auto", "localize": SHORT},
        {"when": "auto", "method": "grad-att"},
        {"when": "auto", "compat": "mllms-know"},
        {"layers": 0},
        {"layers": "1-2"},
        {"layers": "all"},
        {"layers": "all", "first_answer": False},
        {"layers": "all", "high_res": "on"},
        {"layers": 3, "method": "grad-att"},
        {"max_new_tokens": 1},
        {"max_new_tokens": 1, "first_answer": False},
        {"max_new_tokens": 3},
        {"high_res": "on", "localize": SHORT},
        {"high_res": "on", "crop_tokens": 7},
        {"high_res": "on", "localize": SHORT, "first_answer": False, "max_new_tokens": 2},
    ]
    return [*heatmaps, *looks, *others]


def asked(engine: ViCropEngine, pictures: list[Image.Image], every: list[Settings]) -> dict[str, Any]:
    """Each setting on each picture, new and then kept, with what was counted."""
    outcomes = {}
    for each in every:
        engine.forget()
        for number, again in itertools.product(range(len(pictures)), range(2)):
            before = dataclasses.asdict(engine.counters)
            outcome = _outcome(engine, pictures[number], each)
            after = dataclasses.asdict(engine.counters)
            counted = {name: after[name] - before[name] for name in after if after[name] != before[name]}
            outcomes[f"{each} picture {number} time {again}"] = {**outcome, "counters": counted}
    return outcomes


def located(engine: ViCropEngine, pictures: list[Image.Image]) -> dict[str, Any]:
    """Where `ask` would crop, for each heatmap method."""
    outcomes = {}
    for method, high_res in itertools.product(("rel-att", "grad-att", "pure-grad"), ("off", "on")):
        for number, picture in enumerate(pictures):
            engine.forget()
            try:
                found = engine.locate(picture, QUESTION, method=method, high_res=high_res)
                outcome = {"box": list(found.box), "heatmap": _digest(found.heatmap)}
            except ViCropError as error:
                outcome = {"error": str(error)}
            outcomes[f"{method} {high_res} picture {number}"] = outcome
    return outcomes


def batched(engine: ViCropEngine, pictures: list[Image.Image]) -> dict[str, Any]:
    """The pictures with two questions each, several at a time.

    Which of two that share a prefix runs it is a race, and so what is counted, and pure-grad's last bits.
    """
    outcomes = {}
    items = [(picture, question) for picture in pictures for question in (QUESTION, f"{QUESTION} Be brief.")]
    for each in settings()[::3]:
        engine.forget()
        results = engine.ask_batch(items, return_errors=True, **each)
        for number, result in enumerate(results):
            failed = isinstance(result, ViCropError)
            outcome = {"error": str(result)} if failed else _of_answer(result)
            raced = ["tokens"]
            if each.get("method") == "pure-grad":
                raced += ["heatmap", "crop_worth", "exact_worth"]
            for name in raced:
                outcome.pop(name, None)
            outcomes[f"{each} item {number}"] = outcome
    return outcomes


def served(engine: str, pictures: list[Image.Image]) -> dict[str, Any]:
    """One request at a time to a server of its own: the answer's document without its times, and metrics."""
    outcomes = {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "vicrop_engine.cli",
        "serve",
        engine,
        "--port",
        str(port),
        "--threads",
        "1",
    ]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait(f"{address}/health")
        model = json.load(urllib.request.urlopen(f"{address}/v1/models"))["data"][0]["id"]
        for each, (number, picture) in itertools.product(settings()[::2], enumerate(pictures)):
            outcomes[f"{each} picture {number}"] = _posted(address, model, picture, each)
        metrics = urllib.request.urlopen(f"{address}/metrics").read().decode()
        outcomes["metrics"] = dict(_counts(metrics))
    finally:
        server.terminate()
        server.wait()
    return outcomes


def compared(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Print what differs; 1 when something does."""
    differing = 0
    for part in sorted(before.keys() | after.keys()):
        one, other = before.get(part, {}), after.get(part, {})
        for name in sorted(one.keys() | other.keys()):
            if one.get(name) != other.get(name):
                differing += 1
                print(f"{part}: {name}\n  before {one.get(name)}\n  after  {other.get(name)}")
    print(f"{differing} differ")
    return int(differing > 0)


def _outcome(engine: ViCropEngine, picture: Image.Image, each: Settings) -> dict[str, Any]:
    heard: list[str] = []
    try:
        return {
            **_of_answer(engine.ask(picture, QUESTION, on_first_answer=heard.append, **each)),
            "heard": heard,
        }
    except ViCropError as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _of_answer(answer: Any) -> dict[str, Any]:
    document = answer.to_json()
    document.pop("timings")
    document["heatmap"] = _digest(answer.heatmap)
    extra = {
        "token_ids": list(answer.token_ids),
        "first_token_ids": list(answer.first_token_ids),
        "heatmap_box": answer.heatmap_box and list(answer.heatmap_box),
        "tiles": [list(tile) for tile in answer.tiles],
        "exact_confidence": float(answer.confidence).hex(),
        "exact_worth": answer.crop_worth and float(answer.crop_worth).hex(),
    }
    plain: dict[str, Any] = json.loads(json.dumps({**document, **extra}))
    return plain


def _digest(heatmap: Any) -> str | None:
    if heatmap is None:
        return None
    values = np.ascontiguousarray(heatmap)
    return f"{values.dtype}{values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}"


def _posted(address: str, model: str, picture: Image.Image, each: Settings) -> Any:
    extra = {**each, "return_heatmap": True}
    tokens = extra.pop("max_new_tokens", 20)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    body = {
        "model": model,
        "max_tokens": tokens,
        "messages": [{"role": "user", "content": content}],
        "vicrop": extra,
    }
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as response:
            document = json.load(response)
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": json.load(error)}
    for name in ("id", "created"):
        document.pop(name, None)
    document.get("vicrop", {}).pop("timings", None)
    document.get("vicrop", {}).pop("request_id", None)
    return document


def _counts(metrics: str) -> Iterator[tuple[str, str]]:
    for line in metrics.splitlines():
        name, _, value = line.rpartition(" ")
        if not line.startswith("#") and "_total" in name and "seconds" not in name and "process" not in name:
            yield name, value


def _wait(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} gave no answer within a minute")


def _pictures() -> list[Image.Image]:
    """One within a crop window, a middling one, and one of noise and a sign that is looked at in tiles."""
    from vicrop_engine import examples

    paths = [path for path, _ in examples.signs()]
    sign = Image.open(paths[0]).convert("RGB")
    small = sign.crop((0, 0, 100, 90))
    noise = np.random.default_rng(0).integers(100, 156, (1300, 2100, 3), dtype=np.uint8)
    large = Image.fromarray(noise)
    large.paste(sign.resize((300, 200)), (1500, 900))
    return [small, sign, large]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="where to write what was given")
    parser.add_argument("--engine", default="llava-signs", help="an engine directory or a model's name")
    parser.add_argument("--provider", help="run an engine for a GPU on this provider; no server then")
    parser.add_argument("--against", type=Path, help="what another commit gave")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
