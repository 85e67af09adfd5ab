"""As many threads as a process has cores, or time for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunewright.core import threads as module
from tunewright.core.threads import SETTING, WAITING, confine, cores, limited, threads

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
    environment = {name: value for name, value in os.environ.items() if name not in {SETTING, *WAITING}} | more
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)


def said(code: str) -> str:
    return run(code).stdout.strip()


def test_a_real_quota_of_one_core_is_one_thread(one_core: str) -> None:
    assert said(f"{one_core}from tunewright.core.threads import cores; print(cores())") == "1"


@pytest.mark.slow
def test_libraries_use_no_more_threads_than_a_quota_gives(one_core: str) -> None:
    code = f"{one_core}from tunewright.core.threads import confine, limited; confine()\nimport torch\n"
    assert said(f"{code}print(limited(), torch.get_num_threads())") == "1 1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "GOMP_SPINCOUNT = '10000'"), ({"GOMP_SPINCOUNT": "77"}, "= '77'"), ({"OMP_WAIT_POLICY": "passive"}, "= '0'")],
)
def test_threads_that_wait_give_their_core_away_soon(given: dict[str, str], told: str) -> None:
    code = "from tunewright.core.threads import confine; confine()\nimport torch\n"
    known = run(code, OMP_DISPLAY_ENV="verbose", **given).stderr
    if "GOMP_SPINCOUNT" not in known:
        pytest.skip("torch has another OpenMP than GNU's here")
    (line,) = [line for line in known.splitlines() if "GOMP_SPINCOUNT" in line]
    assert told in line


def test_without_a_quota_libraries_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_quotas", lambda _process: iter([]))
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setenv(WAITING[0], "1")  # otherwise `confine` sets it for the tests that follow
    cores.cache_clear()
    confine()
    assert (limited(), os.environ.get("OMP_NUM_THREADS")) == (None, None)
    cores.cache_clear()
