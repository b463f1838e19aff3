"""The NVIDIA driver, asked: its devices, why it has none, and machines where nothing is as it should be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.runtime.fake_driver import NO_DEVICE, FakeDriver, pretend_libraries
from vicrop_engine.runtime.nvidia import Device, Driver, find_driver, missing_libraries


def test_every_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, FakeDriver())
    first, second = Device(0, "Sample GPU A", 80 << 30, "9.0"), Device(1, "Sample GPU B", 24 << 30, "8.9")
    assert find_driver() == Driver((13, 2), (first, second))


def test_without_a_driver_its_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, None)
    assert find_driver() == Driver(None, (), "no NVIDIA driver: libcuda.so.1 is missing")


def test_a_driver_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, FakeDriver(fails=NO_DEVICE))
    problem = find_driver().problem
    assert problem == (
        "the NVIDIA driver does not answer (cuInit gives error 100, no CUDA-capable device is detected)"
    )


def test_a_driver_whose_devices_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, FakeDriver(gpus=()))
    assert find_driver() == Driver((13, 2), (), "the NVIDIA driver has no device for this process")


def test_a_library_that_only_has_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_libraries(monkeypatch, object())
    assert "does not answer" in str(find_driver().problem)


def test_libraries_are_those_of_packages_or_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packaged = tmp_path / "nvidia" / "cudnn" / "lib"
    packaged.mkdir(parents=True)
    (packaged / "libcudnn.so.9").touch()
    pretend_libraries(monkeypatch, None, "libcudart.so.13")
    names = ("libcudart.so.13", "libcudnn.so.9", "libcublas.so.13")
    assert missing_libraries(names) == ["libcudnn.so.9", "libcublas.so.13"]
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/nowhere", *sys.path])
    assert missing_libraries(names) == ["libcublas.so.13"]
