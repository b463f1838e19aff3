"""An engine proves itself where it is opened: once, again when asked to; what falls short is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines import GROUPED_224, STRETCH_168, built
from tests.processors.haswell import run_on_haswell
from vicrop_engine import ViCropEngine
from vicrop_engine.cli import main
from vicrop_engine.cli.facts import engine_info
from vicrop_engine.engine_dir.files import MANIFEST, hash_file
from vicrop_engine.engine_dir.manifest import PROBE, read_manifest
from vicrop_engine.errors import EngineDamagedError, EngineDirectoryError, ProbeError
from vicrop_engine.model import probe
from vicrop_engine.runtime import graphs as backend
from vicrop_engine.runtime import proofs
from vicrop_export.build import build_engine
from vicrop_export.precision import layouts, prefill_products
from vicrop_export.precision.byte_products import Range

OPENED = """
import sys
from pathlib import Path
from vicrop_engine import ViCropEngine
from vicrop_engine.errors import ProbeError
from vicrop_engine.model.probe import prove
try:
    engine = ViCropEngine.load(sys.argv[1])  # where it was built on such a processor this runs no probe
    prove(engine.model, Path(sys.argv[1]))
    print(engine.ask(sys.argv[2], sys.argv[3], max_new_tokens=1).crop_box)
except ProbeError as error:
    print(error)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Moves to another processor, by its name; the engine was built here."""
    built(GROUPED_224)

    def move(name: str) -> None:
        monkeypatch.setattr(proofs, "processor_kind", lambda: name)

    move("x86_64 of another kind")
    return move


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One word for each run of a probe."""
    heard: list[str] = []
    inner = probe.run_probe

    def run(*arguments: Any) -> probe.Outputs:
        heard.append("run")
        return inner(*arguments)

    monkeypatch.setattr(probe, "run_probe", run)
    return heard


def copied(tmp_path: Path, engine: Path) -> Path:
    return Path(shutil.copytree(engine, tmp_path / "engine"))


def rehashed(engine: Path, name: str) -> None:
    """The manifest agrees with the file again, as if it had been built so."""
    document = json.loads((engine / MANIFEST).read_text())
    entry = hash_file(engine / name)
    document["files"][name] = {"size": entry.size, "sha256": entry.sha256}
    (engine / MANIFEST).write_text(json.dumps(document))


def test_where_it_was_built_nothing_is_run(runs: list[str]) -> None:
    ViCropEngine.load(built(GROUPED_224).engine)
    assert runs == []


def test_elsewhere_it_is_run_once(runs: list[str], elsewhere: Callable[[str], None], home: Path) -> None:
    for processor, wanted in (("one", 1), ("one", 1), ("another", 2), ("one", 2)):
        elsewhere(processor)
        engine = ViCropEngine.load(built(GROUPED_224).engine)
        assert len(runs) == wanted
        assert engine.counters.vision_passes == 0, "what the probe ran is nobody's question"
    shutil.rmtree(home)
    ViCropEngine.load(built(GROUPED_224).engine)
    assert len(runs) == 3


def test_another_onnx_runtime_is_another_machine(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "this_machine", lambda: proofs.Proof("here", "9.9"))
    monkeypatch.setattr(probe, "this_machine", lambda: proofs.Proof("here", "9.9"))
    for _ in range(2):
        ViCropEngine.load(built(GROUPED_224).engine)
    assert runs == ["run"]


def test_without_a_place_for_notes_it_is_run_every_time(
    runs: list[str], elsewhere: Callable[[str], None], home: Path
) -> None:
    home.write_text("in the way")
    for _ in range(2):
        ViCropEngine.load(built(GROUPED_224).engine)
    assert len(runs) == 2


def test_info_says_where_and_verify_runs_it_again(
    runs: list[str], elsewhere: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = built(GROUPED_224).engine
    built_on = read_manifest(engine).probe
    assert built_on is not None
    assert [each["processor"] for each in engine_info(engine, verify=False)["proven_on"]] == [
        built_on.processor
    ]
    for number in (1, 2):
        assert main(["info", str(engine), "--verify", "--json"]) == 0
        assert len(runs) == number
    first, second = json.loads(capsys.readouterr().out.split("}\n{")[0] + "}")["proven_on"]
    assert first["processor"] == built_on.processor
    assert second["processor"].startswith("x86_64 of another kind")
    assert 0 <= second["distances"]["logits"] <= built_on.tolerances["logits"]


def poisoned(engine: Path) -> None:
    """One byte of one weight, the exponent of a number of the language head."""
    manifest = read_manifest(engine)
    with (engine / "decoder_upper.onnx.data").open("r+b") as file:
        file.seek(manifest.files["decoder_upper.onnx.data"].size - 4 * 100 - 1)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x40]))
    rehashed(engine, "decoder_upper.onnx.data")


def test_one_byte_of_a_weight_is_enough_to_be_refused(
    tmp_path: Path, elsewhere: Callable[[str], None], runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = copied(tmp_path, built(GROUPED_224).engine)
    poisoned(engine)
    for number in (1, 2):  # and it is not remembered as proven
        with pytest.raises(ProbeError, match=r"logits are .* wanted at most .* --no-probe") as refused:
            ViCropEngine.load(engine)
        assert refused.value.exit_code == 1
        assert len(runs) == number
    ViCropEngine.load(engine, probe=False)
    assert len(runs) == 2
    picture = tmp_path / "picture.png"
    shutil.copy(Path(__file__).parents[2] / "docs" / "overlay.png", picture)
    ask = ["ask", str(engine), str(picture), "What?", "--max-new-tokens", "1"]
    assert main(ask) == 1
    error = capsys.readouterr().err
    assert "x86_64 of another kind" in error
    assert error.count("\n") == 1
    assert main([*ask, "--no-probe"]) == 0


@pytest.mark.parametrize("spoil", ["cut", "other names"])
def test_a_probe_that_cannot_be_read_is_damage(
    spoil: str, tmp_path: Path, elsewhere: Callable[[str], None]
) -> None:
    engine = copied(tmp_path, built(GROUPED_224).engine)
    path = engine / PROBE
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        np.savez(path, something=np.zeros(3))
    rehashed(engine, PROBE)
    with pytest.raises(EngineDamagedError, match=r"probe\.npz (cannot be read|holds).*rebuild it"):
        ViCropEngine.load(engine)


def test_engines_from_before_there_were_probes_open(tmp_path: Path, elsewhere: Callable[[str], None]) -> None:
    engine = copied(tmp_path, built(GROUPED_224).engine)
    document = json.loads((engine / MANIFEST).read_text())
    del document["probe"], document["files"][PROBE]
    (engine / PROBE).unlink()
    (engine / MANIFEST).write_text(json.dumps(document))
    ViCropEngine.load(engine)
    info = engine_info(engine, verify=True)
    assert info["proven_on"] == []


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_with_avx2_alone_engines_built_here_are_proven_and_look_at_the_same_place(
    precision: str, home: Path
) -> None:
    """The whole runtime under emulation: the probe, and one question."""
    from vicrop_engine.examples import signs

    picture, example = signs()[0]
    engine = built(STRETCH_168, precision).engine
    printed = run_on_haswell(OPENED, engine, picture, example.question)
    here = ViCropEngine.load(engine).ask(picture, example.question, max_new_tokens=1)
    assert printed.strip() == str(here.crop_box)
    (note,) = home.glob("proven/*/*.json")
    assert "16 bits" in json.loads(note.read_text())["processor"]


def test_a_kernel_that_overflows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens and weights of eight bits each, as engines had: exact where VNNI is, and refused with AVX2."""
    eight = Range(token=127, weight=127)
    monkeypatch.setattr(layouts, "TWO_BYTES", eight)
    monkeypatch.setattr(layouts, "ONE_BYTE", eight)
    monkeypatch.setattr(prefill_products, "plan_twins", lambda *_: {})
    engine = tmp_path / "engine"
    build_engine(built(STRETCH_168).checkpoint, engine, name="llava-signs", precision="int8")
    printed = run_on_haswell(OPENED, engine, "none", "none")
    assert "wanted at most" in printed
    assert "byte products in 16 bits" in printed


@pytest.mark.parametrize(("overflows", "precision"), [(True, "int8"), (True, "fp32"), (False, "int8")])
def test_engines_of_bytes_from_before_are_refused_where_they_would_overflow(
    overflows: bool, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = copied(tmp_path, built(STRETCH_168, precision).engine)
    document = json.loads((engine / MANIFEST).read_text())
    del document["probe"]
    (engine / MANIFEST).write_text(json.dumps(document))
    monkeypatch.setattr(backend, "adds_in_16_bits", lambda: overflows)
    if overflows and precision == "int8":
        with pytest.raises(EngineDirectoryError, match=r"processor with VNNI.*rebuild it with"):
            ViCropEngine.load(engine)
    else:
        ViCropEngine.load(engine)
