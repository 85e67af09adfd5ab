"""As many threads as a process has cores, or time for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunewright.core import threads as module
from tunewright.core.threads import POLICY, SETTING, TURNS, confine, cores, limited, threads

CGROUP = Path("/sys/fs/cgroup")


def quotas(folder: Path, groups: str, mounts: str, files: dict[str, str]) -> list[float]:
    """What is read of a machine whose control groups are these."""
    process = folder / "proc"
    process.mkdir()
    (process / "cgroup").write_text(groups)
    (process / "mountinfo").write_text(mounts.replace("/sys/fs/cgroup", str(folder / "cgroup")))
    for name, content in files.items():
        file = folder / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return list(module._quotas(process))


SECOND = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
FIRST = "35 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "found"),
    [
        ("0::/\n", SECOND, {"cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/\n", SECOND, {"cpu.max": "max 100000\n"}, []),
        ("0::/pod/app\n", SECOND, {"pod/app/cpu.max": "max 100000", "pod/cpu.max": "200000 100000"}, [2.0]),
        ("0::/pod/app\n", SECOND, {"pod/app/cpu.max": "50000 100000", "pod/cpu.max": "200000 100000"}, [0.5, 2.0]),
        (
            "4:memory:/x\n3:cpu,cpuacct:/docker/a\n0::/\n",
            FIRST,
            {
                "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            [4.0],
        ),
        # In a container the group's path is that of the machine, and the mount begins there.
        (
            "3:cpu,cpuacct:/docker/a\n",
            FIRST.replace(" / /", " /docker/a /"),
            {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "50000"},
            [2.0],
        ),
        ("0::/\n", "31 23 0:27 / /mnt rw - tmpfs  rw\n" + SECOND, {"cpu.max": "100000 100000"}, [1.0]),
        ("", "", {}, []),
    ],
)
def test_quotas_are_those_of_all_groups_around_a_process(
    groups: str, mounts: str, files: dict[str, str], found: list[float], tmp_path: Path
) -> None:
    assert quotas(tmp_path, groups, mounts, files) == found


@pytest.mark.parametrize(("quota", "expected"), [([], 8), ([0.5], 1), ([1.5, 4.0], 2), ([64.0], 8), ([8.0, 3.0], 3)])
def test_cores_are_rounded_up_and_never_more_than_the_affinity(
    quota: list[float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_quotas", lambda _process: iter(quota))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    cores.cache_clear()
    assert cores() == expected
    cores.cache_clear()


def test_people_say_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads() == 3
    for nonsense in ("", "many", "0"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert threads() == cores()


@pytest.fixture
def one_core() -> Iterator[str]:
    """Code that enters a control group of this machine with the time of one core."""
    group = CGROUP / "cpu" / f"tunewright-{os.getpid()}"
    names = ("cpu.cfs_quota_us", "100000", "cgroup.procs")
    if not (CGROUP / "cpu").is_dir():
        group, names = CGROUP / group.name, ("cpu.max", "100000 100000", "cgroup.procs")
    try:
        group.mkdir()
        (group / names[0]).write_text(names[1])
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield f"open({str(group / names[2])!r}, 'w').write('0')\n"
    group.rmdir()


def run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {SETTING, TURNS, POLICY}} | more
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)


def said(code: str) -> str:
    return run(code).stdout.strip()


def test_a_real_quota_of_one_core_is_one_thread(one_core: str) -> None:
    assert said(f"{one_core}from tunewright.core.threads import cores; print(cores())") == "1"


@pytest.mark.slow
def test_libraries_use_no_more_threads_than_a_quota_gives(one_core: str) -> None:
    code = f"{one_core}from tunewright.core.threads import confine, limited; confine()\nimport torch\n"
    assert said(f"{code}print(limited(), torch.get_num_threads())") == "1 1"


def pressure(share: float) -> str:
    return f"some avg10={share:.2f} avg60=0.66 avg300=13.56 total=344\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


@pytest.mark.parametrize(
    ("text", "crowded"), [(pressure(68.0), True), (pressure(1.9), False), ("", False), ("avg10=", False), (None, False)]
)
def test_the_system_tells_whether_processes_wait_for_cores(text: str | None, crowded: bool, tmp_path: Path) -> None:
    file = tmp_path / "cpu"
    if text is not None:
        file.write_text(text)
    assert module._is_crowded(file) is crowded


@pytest.mark.parametrize(
    ("given", "crowded", "turns"),
    [
        ({}, False, "10000"),
        ({}, True, "1000"),
        ({TURNS: "10000"}, True, "1000"),  # a step decides anew what the command decided before
        ({TURNS: "77"}, True, "77"),
        ({POLICY: "active"}, True, None),
    ],
)
def test_threads_wait_less_beside_others_unless_somebody_says(
    given: dict[str, str], crowded: bool, turns: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_is_crowded", lambda _pressure: crowded)
    environment = dict(given)
    monkeypatch.setattr(os, "environ", environment)
    confine()
    assert environment.get(TURNS) == turns


@pytest.mark.slow
def test_the_library_is_told_in_time() -> None:
    code = "from tunewright.core.threads import confine; confine()\nimport torch\n"
    known = run(code, OMP_DISPLAY_ENV="verbose").stderr
    if TURNS not in known:
        pytest.skip("torch has another OpenMP than GNU's here")
    (line,) = [line for line in known.splitlines() if TURNS in line]
    assert re.search("'10?000'", line)


def test_without_a_quota_libraries_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_quotas", lambda _process: iter([]))
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setenv(TURNS, "1")  # otherwise `confine` sets it for the tests that follow
    cores.cache_clear()
    confine()
    assert (limited(), os.environ.get("OMP_NUM_THREADS")) == (None, None)
    cores.cache_clear()
