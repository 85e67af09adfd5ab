from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright.core.errors import UserError
from tunewright.core.processes import memory_limit, sole_writer, whoami


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Python in a process of its own, its output to be read."""
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    with sole_writer(tmp_path), pytest.raises(UserError, match="works in this folder"), sole_writer(tmp_path):
        pass


def test_a_killed_writer_lets_go(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tunewright.core.processes import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with start(script, tmp_path) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError), sole_writer(tmp_path):
            pass
        holder.kill()
    with sole_writer(tmp_path):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell a process that its parent died")
def test_a_child_ends_when_its_parent_is_killed() -> None:
    child = (
        "import os, time; from tunewright.core.processes import end_with_parent\n"
        "end_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with start(parent) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_containers_limit_counts_not_the_machines_memory(tmp_path: Path) -> None:
    own = tmp_path / "own"
    deep = tmp_path / "groups" / "pod" / "container"
    deep.mkdir(parents=True)
    own.write_text("0::/pod/container\n", "ascii")
    assert memory_limit(tmp_path / "groups", own) is None
    (deep / "memory.max").write_text("max\n", "ascii")
    assert memory_limit(tmp_path / "groups", own) is None
    (deep.parent / "memory.max").write_text("2000\n", "ascii")
    assert memory_limit(tmp_path / "groups", own) == 2000
    (deep / "memory.max").write_text("1000\n", "ascii")
    assert memory_limit(tmp_path / "groups", own) == 1000
    # The first version of control groups, seen from within a container, whose own path is not mounted there.
    own.write_text("4:memory:/docker/abc\n0::/\n", "ascii")
    (tmp_path / "groups" / "memory").mkdir()
    (tmp_path / "groups" / "memory" / "memory.limit_in_bytes").write_text("500\n", "ascii")
    assert memory_limit(tmp_path / "groups", own) == 500
    assert memory_limit(tmp_path / "groups", tmp_path / "absent") is None


def test_a_process_in_a_group_with_a_limit_has_no_more(memory_group: Callable[[int], Path]) -> None:
    group = memory_group(300 * 2**20)
    script = (
        "import os, sys; from pathlib import Path; Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "from tunewright.core.processes import machine_memory; print(machine_memory())"
    )
    with start(script, group) as process:
        assert process.stdout
        assert int(process.stdout.read()) == 300 * 2**20


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as an id which its list of users lacks."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert whoami() == "user 54321"
