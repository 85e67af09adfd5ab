"""A file of requests through the real model: on one worker and on two, killed and gone on, and on a Ray cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tunewright as tw
from tests.conftest import REPOSITORY, tunewright, wait_for_file
from tests.fixtures.short_run import ShortRun
from tunewright.core.artifacts import read_jsonl
from tunewright.serving import batch
from tunewright.serving.batch import answer_file

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

CHUNK = 8


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = read_jsonl(REPOSITORY / "examples" / "tickets" / "data" / "test_unseen_phrasing.jsonl")[:60]
    file = tmp_path_factory.mktemp("batch") / "in.jsonl"
    lines = [json.dumps({"id": n, "text": row["text"]}) for n, row in enumerate(rows)]
    file.write_text("\n".join([*lines[:30], "no json", *lines[30:]]) + "\n", "utf-8")
    return file


@pytest.fixture(scope="module")
def whole(source: Path, short_run: ShortRun, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The output of an undisturbed batch."""
    target = tmp_path_factory.mktemp("whole") / "out.jsonl"
    found = answer_file(short_run.latest("bundle"), source, target, CHUNK)
    assert (found.lines, found.refused, found.kept) == (61, 1, 0)
    return target.read_bytes()


def test_every_line_has_its_answer(whole: bytes, short_run: ShortRun) -> None:
    rows = [json.loads(line) for line in whole.decode().splitlines()]
    assert [row.get("id", row.get("line")) for row in rows] == [*range(30), 31, *range(30, 60)]
    labels = tw.load_spec(short_run.project).task.labels
    assert {row["label"] for row in rows if "label" in row} <= set(labels)
    assert all(0 < row["confidence"] <= 1 for row in rows if "label" in row)


def test_a_batch_that_was_killed_goes_on_and_writes_the_same(
    whole: bytes, source: Path, short_run: ShortRun, tmp_path: Path
) -> None:
    target = tmp_path / "out.jsonl"
    script = tmp_path / "run.py"
    script.write_text(
        "import sys; from pathlib import Path; from tunewright.serving.batch import answer_file\n"
        f"if __name__ == '__main__': answer_file(*map(Path, sys.argv[1:]), {CHUNK})"
    )
    paths = [str(path) for path in (short_run.latest("bundle"), source, target)]
    process = subprocess.Popen([sys.executable, str(script), *paths], start_new_session=True, text=True)
    wait_for_file(process, tmp_path, "out.jsonl.parts/0*.jsonl")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    found = answer_file(short_run.latest("bundle"), source, target, CHUNK)
    assert found.kept >= CHUNK
    assert target.read_bytes() == whole


def test_workers_with_a_core_each_write_the_same_bytes(
    whole: bytes, source: Path, short_run: ShortRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As machines of many cores answer, and all machines with the bundles of other runtimes."""
    monkeypatch.setattr(batch, "_MOST_STREAMS", 1)
    target = tmp_path / "out.jsonl"
    answer_file(short_run.latest("bundle"), source, target, CHUNK)
    assert target.read_bytes() == whole


def test_two_workers_of_a_ray_cluster_write_the_same_bytes(
    whole: bytes, source: Path, short_run: ShortRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    target = tmp_path / "out.jsonl"
    answer_file(short_run.latest("bundle"), source, target, CHUNK)
    assert target.read_bytes() == whole


def test_the_command_tells_the_speed_and_that_a_line_was_refused(
    source: Path, short_run: ShortRun, tmp_path: Path
) -> None:
    target = tmp_path / "out.jsonl"
    done = tunewright("batch", str(short_run.project), str(source), str(target))
    assert done.returncode == 1, done.stderr
    assert "61 lines, 1 refused, 0 answered before." in done.stdout
    assert "A million would take" in done.stdout
    again = tunewright("batch", str(short_run.project), str(source), str(target))
    assert again.returncode == 2
    assert "The output is there already." in again.stderr
