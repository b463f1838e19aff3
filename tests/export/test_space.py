"""The space a build asks of the disk before any work: what its weights take there at most."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engines import STRETCH_168, Built, built
from vicrop_engine.errors import NoSpaceError
from vicrop_export import build, staging, targets
from vicrop_export.build import build_engine
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.locate import locate
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.plan import Plan, make_plan
from vicrop_export.precision import prefill_products
from vicrop_export.precision.block_layout import Blocks
from vicrop_export.precision.rules import PRECISIONS
from vicrop_export.targets import fitted_precision, num_build_bytes, num_weight_bytes


class StoppedError(Exception):
    """The build came as far as the test wanted."""


@pytest.fixture(scope="module")
def made() -> Built:
    """The engine of the tests; never change it."""
    return built(STRETCH_168)


@pytest.fixture
def no_work(made: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building may go as far as the plan."""

    def stop(*_: Any, **__: Any) -> None:
        raise StoppedError

    monkeypatch.setattr(build, "run_reference", stop)


def plan_of(made: Built, precision: str) -> Plan:
    return make_plan(locate(made.checkpoint), name="x", layers=None, precision=precision, target="cpu")


def leave_free(num_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=num_bytes))


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_byte_too_few_is_refused_before_any_work(
    precision: str, made: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = num_build_bytes(DescribedTensors(made.checkpoint, canonical_name), plan_of(made, precision))
    output = tmp_path / "deep" / "engine"
    leave_free(needed - 1, monkeypatch)
    with pytest.raises(NoSpaceError, match=r"the build takes \d+ MB"):
        build_engine(made.checkpoint, output, name="x", precision=precision)
    leave_free(needed, monkeypatch)
    with pytest.raises(StoppedError):
        build_engine(made.checkpoint, output, name="x", precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_a_float32_engine_takes_four_bytes_a_number(made: Built) -> None:
    tensors, plan = DescribedTensors(made.checkpoint, canonical_name), plan_of(made, "fp32")
    numbers = sum(tensors.get(name).numel() for name in tensors.names())
    assert num_build_bytes(tensors, plan) == num_weight_bytes(tensors, plan) == 4 * numbers


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "fp32"])
def test_the_float32_engine_to_compare_with_counts_where_there_is_one(
    precision: str, made: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors, plan = DescribedTensors(made.checkpoint, canonical_name), plan_of(made, precision)
    engine, twin = (num_weight_bytes(tensors, each) for each in (plan, plan_of(made, "fp32")))
    own = four_bit_numbers(tensors, plan)
    assert (own > 0) == (precision == "int4")
    assert num_build_bytes(tensors, plan) == engine + own + twin
    monkeypatch.setattr(targets, "LARGEST_COMPARED", twin - 1)
    assert num_build_bytes(tensors, plan) == engine + own
    monkeypatch.setattr(prefill_products, "TWIN_SPARE", 0)
    assert num_build_bytes(tensors, plan) == engine


def four_bit_numbers(tensors: DescribedTensors, plan: Plan) -> int:
    """Weights of four bits: prompts have a byte of each in a file beside them."""
    rules = fitted_precision(tensors, plan)
    layouts = {name: rules.layout(name, plan.decoder.num_lower_layers) for name in tensors.names()}
    return sum(tensors.get(name).numel() for name, layout in layouts.items() if layout == Blocks(4))


@pytest.mark.usefixtures("quick_export")
def test_a_build_has_on_the_disk_what_it_asked_for(
    made: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights, that is; each begins on a page of its own, which is little for any but these."""
    taken: list[int] = []

    def stop(*_: Any) -> None:
        weights = [path for path in tmp_path.rglob("*") if path.suffix in (".data", ".npy")]
        assert len(weights) == 8
        taken.append(sum(path.stat().st_size for path in weights))
        raise StoppedError

    monkeypatch.setattr(build, "measure_agreement", stop)
    with pytest.raises(StoppedError):
        build_engine(made.checkpoint, tmp_path / "engine", name="x", precision="int8")
    needed = num_build_bytes(DescribedTensors(made.checkpoint, canonical_name), plan_of(made, "int8"))
    assert abs(taken[0] / needed - 1) < 0.1
