"""Cores and bytes of this process, from made-up trees of /proc and /sys/fs/cgroup."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vicrop_engine.process_limits import ProcessLimits, process_limits, usable_bytes, usable_cores

GIB = 1 << 30
MIB = 1 << 20
NO_LIMIT_V1 = "9223372036854771712"
V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "33 30 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 30 0:30 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
Tree = Callable[[dict[str, str]], ProcessLimits]


@pytest.fixture
def limits(tmp_path: Path) -> Tree:
    """The limits of eight cores and 16 GiB under a tree of these files."""

    def of(files: dict[str, str]) -> ProcessLimits:
        for name, text in {"proc/meminfo": "MemTotal:       16777216 kB\n", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return process_limits(tmp_path, affinity=8, address_space=0)

    return of


def both(found: ProcessLimits) -> tuple[int, int]:
    return found.cores.amount, found.memory.amount


def v2(path: str, files: dict[str, str]) -> dict[str, str]:
    """A tree of cgroup v2 alone."""
    inside = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    return {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": V2, **inside}


def v1(path: str, files: dict[str, str], root: str = "/") -> dict[str, str]:
    """A tree of cgroup v1 alone, whose mounts show the group `root`."""
    lines = f"11:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:/\n"
    inside = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    return {"proc/self/cgroup": lines, "proc/self/mountinfo": V1.format(root=root), **inside}


def test_without_groups_it_is_the_machine(limits: Tree) -> None:
    found = limits({})
    assert both(found) == (8, 16 * GIB)
    assert (found.cores.source, found.memory.source) == ("affinity mask", "physical memory")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("150000 100000", 2),
        ("100000 100000", 1),
        ("10000 100000", 1),
        ("1 1000000", 1),
        ("250000 50000", 5),
        ("300000", 3),
        ("max", 8),
        ("9900000 100000", 8),
        ("", 8),
        ("-1 100000", 8),
        ("0 100000", 8),
        ("200000 0", 2),
        ("2e5 100000", 8),
        ("\u0662\u0660\u0660\u0660\u0660\u0660 100000", 8),
    ],
)
def test_a_quota_of_v2_is_whole_cores(limits: Tree, quota: str, cores: int) -> None:
    found = limits(v2("/", {"cpu.max": quota + "\n"}))
    assert found.cores.amount == cores
    assert found.cores.source.endswith("cpu.max") == (cores < 8)


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("max", 16 * GIB),
        (str(512 * MIB), 512 * MIB),
        (NO_LIMIT_V1, 16 * GIB),
        ("18446744073709551615", 16 * GIB),
        ("9" * 200, 16 * GIB),
        ("", 16 * GIB),
        ("0", 16 * GIB),
        ("-1", 16 * GIB),
        ("half", 16 * GIB),
    ],
)
@pytest.mark.parametrize("name", ["memory.max", "memory.high"])
def test_limits_of_memory_of_v2(limits: Tree, name: str, text: str, memory: int) -> None:
    assert limits(v2("/", {name: text + "\n"})).memory.amount == memory


def test_the_smallest_up_the_tree_of_v2_holds(limits: Tree) -> None:
    files = {
        "a/cpu.max": "200000 100000",
        "a/memory.max": "max",
        "a/memory.high": str(2 * GIB),
        "a/b/cpu.max": "700000 100000",
        "a/b/memory.max": str(4 * GIB),
        "a/b/c/cpu.max": "max 100000",
        "a/b/c/memory.max": str(3 * GIB),
        "other/memory.max": str(MIB),
        "a/b/c/below/memory.max": str(MIB),
    }
    found = limits(v2("/a/b/c", files))
    assert both(found) == (2, 2 * GIB)
    assert found.memory.source.endswith("/sys/fs/cgroup/a/memory.high")


@pytest.mark.parametrize("path", ["/", "/kubepods/pod7/abc", "/../../docker/abc", "/abc (deleted)", ""])
def test_a_container_sees_its_group_where_the_mount_is(limits: Tree, path: str) -> None:
    """Whatever path the group has for the host: it is not there in the container."""
    assert both(limits(v2(path, {"cpu.max": "150000 100000", "memory.max": str(GIB)}))) == (2, GIB)


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [
        ("-1", "100000", 8),
        ("150000", "100000", 2),
        ("50000", "100000", 1),
        ("400000", "", 4),
        ("25000", "10000", 3),
        ("", "", 8),
    ],
)
def test_a_quota_of_v1_is_whole_cores(limits: Tree, quota: str, period: str, cores: int) -> None:
    files = {"cpu,cpuacct/cpu.cfs_quota_us": quota, "cpu,cpuacct/cpu.cfs_period_us": period}
    assert limits(v1("/", files)).cores.amount == cores


def test_the_smallest_up_the_tree_of_v1_holds(limits: Tree) -> None:
    files = {
        "memory/memory.limit_in_bytes": NO_LIMIT_V1,
        "memory/a/memory.limit_in_bytes": str(GIB),
        "memory/a/b/memory.limit_in_bytes": NO_LIMIT_V1,
        "cpu,cpuacct/a/cpu.cfs_quota_us": "300000",
        "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1",
    }
    assert both(limits(v1("/a/b", files))) == (3, GIB)


@pytest.mark.parametrize("path", ["/docker/abc", "/docker/abc/inner"])
def test_a_mount_that_shows_a_part_of_the_tree_of_v1(limits: Tree, path: str) -> None:
    files = {
        "memory/memory.limit_in_bytes": str(2 * GIB),
        "memory/inner/memory.limit_in_bytes": str(GIB),
        "cpu,cpuacct/cpu.cfs_quota_us": "100000",
    }
    inside = path.endswith("inner")
    assert both(limits(v1(path, files, root="/docker/abc"))) == (1, GIB if inside else 2 * GIB)


def test_what_groups_out_of_sight_allow_in_v1(limits: Tree) -> None:
    files = {
        "memory/memory.limit_in_bytes": NO_LIMIT_V1,
        "memory/memory.stat": f"cache 4096\nhierarchical_memory_limit {GIB}\ntotal_cache 4096\n",
    }
    assert limits(v1("/", files)).memory.amount == GIB


def test_both_versions_at_once(limits: Tree) -> None:
    """Memory by v1, cores by v2, mounted under another name that has a space in it."""
    lines = "11:memory:/job\n0::/user.slice\n"
    mounts = (
        "34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "29 23 0:26 / /mnt/all\\040groups rw - cgroup2 none rw\nbroken line\n"
    )
    found = limits(
        {
            "proc/self/cgroup": lines,
            "proc/self/mountinfo": mounts,
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(GIB),
            "mnt/all groups/user.slice/cpu.max": "250000 100000",
            "sys/fs/cgroup/user.slice/cpu.max": "100000 100000",
        }
    )
    assert both(found) == (3, GIB)


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_usual_places_without_mountinfo_and_without_a_path(limits: Tree, folder: str) -> None:
    files = {
        f"sys/fs/cgroup/{folder}/cpu.cfs_quota_us": "150000",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB),
        "sys/fs/cgroup/unified/memory.max": "max",
    }
    assert both(limits(files)) == (2, GIB)


def test_what_cannot_be_read_sets_no_limit(limits: Tree, tmp_path: Path) -> None:
    """Folders in place of files, bytes that are no text, a file that nobody may read."""
    (tmp_path / "sys/fs/cgroup/memory.max").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_bytes(b"\xff\xfe\x00 100000")
    hidden = tmp_path / "sys/fs/cgroup/memory.high"
    hidden.write_text(str(GIB))
    hidden.chmod(0)
    is_readable = os.access(hidden, os.R_OK)  # for root everything is
    assert both(limits(v2("/", {}))) == (8, GIB if is_readable else 16 * GIB)


def test_a_bound_on_the_address_space_counts_too(limits: Tree, tmp_path: Path) -> None:
    limits(v2("/", {"memory.max": str(GIB)}))
    found = process_limits(tmp_path, affinity=8, address_space=512 * MIB)
    assert found.memory == (512 * MIB, "RLIMIT_AS")
    assert process_limits(tmp_path, affinity=8, address_space=2 * GIB).memory.amount == GIB


def test_the_affinity_mask_may_be_the_narrowest(limits: Tree, tmp_path: Path) -> None:
    limits(v2("/", {"cpu.max": "400000 100000"}))
    assert process_limits(tmp_path, affinity=3, address_space=0).cores.amount == 3


def test_the_real_limits_are_no_more_than_the_machine_has() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert MIB < usable_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and affinity are Linux's")
def test_a_process_under_limits_of_its_own_sees_them() -> None:
    program = (
        "import os, resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); "
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
        "from vicrop_engine.process_limits import *; print(usable_cores(), usable_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    cores, found = map(int, done.stdout.split())
    assert (cores, found <= 1 << 30) == (1, True)
