"""The number of processes that a training runs in, and each one's rows of a batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import example, make_spec, write_project
from tunewright.config import load_spec
from tunewright.core.artifacts import MANIFEST
from tunewright.core.processes import SHARES
from tunewright.core.threads import threads
from tunewright.pipeline.runner import execute_step, processes_of
from tunewright.pipeline.steps import STEPS
from tunewright.training.loop.distributed import own_share
from tunewright.training.loop.trainer import planned_steps
from tunewright.training.planning import division
from tunewright.training.planning.division import processes_for, work

GB = 10**9
TOTAL = {"type": "object", "properties": {"total": {"type": "string"}}}


def answer(number: int) -> str:
    return json.dumps({"total": f"document {number}"}, separators=(",", ":"))


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A split with 66 training rows."""
    spec = load_spec(write_project(tmp_path / "project"))
    execute_step(STEPS["check"], spec, {}, tmp_path / "check")
    execute_step(STEPS["split"], spec, {"check": tmp_path / "check"}, tmp_path / "split")
    return tmp_path / "split"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without a GPU, with memory enough and 8 threads."""
    monkeypatch.setattr(division, "has_gpu", lambda: False)
    monkeypatch.setattr(division, "machine_memory", lambda: 64 * GB)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.delenv("RANK", raising=False)
    return monkeypatch


def processes(split: Path, **train: object) -> int:
    return processes_for(make_spec(train=train), {"split": split})


def test_as_many_as_threads_memory_and_the_batch_allow(split: Path, machine: pytest.MonkeyPatch) -> None:
    assert processes(split, batch_size=32) == 2  # the last of 3 batches has 2 rows
    assert processes(split, batch_size=33) == 1
    assert processes(split, batch_size=64) == 2
    assert processes(split, batch_size=132) == 4
    assert processes(split, batch_size=8) == 1
    machine.setenv("OMP_NUM_THREADS", "3")
    assert processes(split, batch_size=132) == 1  # two processes with one thread each would leave the third idle
    machine.setenv("OMP_NUM_THREADS", "2")
    assert processes(split, batch_size=132) == 2
    machine.setenv("OMP_NUM_THREADS", "1")
    assert processes(split, batch_size=132) == 1
    machine.setenv("OMP_NUM_THREADS", "8")
    machine.setattr(division, "machine_memory", lambda: 8 * GB)
    assert processes(split, batch_size=132) == 2
    machine.setattr(division, "machine_memory", lambda: 7 * GB)
    assert processes(split, batch_size=132) == 1


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("window", [None, 200])
def test_copies_with_swapped_values_are_rows_too(split: Path, window: int | None) -> None:
    """Of 17 rows the last batch of 16 has one, which two processes can't share; of 34 it has two."""
    (split / "train.jsonl").write_text(
        "".join(f"{example(f'document {n}', answer(n)).model_dump_json()}\n" for n in range(17)), "utf-8"
    )
    manifest = json.loads((split / MANIFEST).read_text("utf-8"))
    (split / MANIFEST).write_text(json.dumps(manifest | {"files": {}, "result": {"train": 17}}), "utf-8")
    task = {"kind": "extract", "instruction": "Read.", "schema": TOTAL, "window": window}
    for copies, count in ((0, 1), (1, 2)):
        spec = make_spec(task=task, train={"batch_size": 16, "num_swapped_copies": copies})
        assert processes_for(spec, {"split": split}) == count


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("documents", "count"),
    [
        (1, 2),  # of 7 windows
        (7, 1),  # of 49 windows; the last of 4 batches has one, which two processes can't share
    ],
)
def test_a_documents_windows_are_what_processes_share(split: Path, documents: int, count: int) -> None:
    document = example("".join(f"a line of the document {n}\n" for n in range(40)), answer(7))
    (split / "train.jsonl").write_text(f"{document.model_dump_json()}\n" * documents, "utf-8")
    manifest = json.loads((split / MANIFEST).read_text("utf-8"))
    (split / MANIFEST).write_text(json.dumps(manifest | {"files": {}, "result": {"train": documents}}), "utf-8")
    task = {"kind": "extract", "instruction": "Read.", "schema": TOTAL, "window": 200}
    spec = make_spec(task=task, train={"batch_size": 16})
    assert processes_for(spec, {"split": split}) == count


@pytest.mark.usefixtures("machine")
def test_a_long_prompt_is_not_run_several_times(split: Path) -> None:
    spec = make_spec(task={"kind": "classify", "instruction": "long " * 2000, "labels": ["a", "b"]})
    assert processes_for(spec, {"split": split}) == 1


def test_one_process_on_a_gpu_with_4_bit_weights_and_under_a_launcher(
    split: Path, machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, train = make_spec(train={"batch_size": 64}), STEPS["train"]
    assert processes_of(train, spec, {"split": split}) == 2
    assert processes_of(STEPS["export"], spec, {"split": split}) == 1
    assert processes_of(train, spec, {"split": tmp_path / "absent"}) == processes_of(train, spec, {}) == 1
    assert processes(split, batch_size=64, method="qlora") == 1
    machine.setattr(division, "has_gpu", lambda: True)
    assert processes_of(train, spec, {"split": split}) == 1
    machine.setattr(division, "has_gpu", lambda: False)
    machine.setenv("RANK", "0")
    assert processes_of(train, spec, {"split": split}) == 1


def test_two_processes_pay_where_a_prompt_is_short() -> None:
    assert work(2, 2, shared=20, own=800) < work(1, 2, shared=20, own=800)
    assert work(2, 2, shared=400, own=800) > work(1, 2, shared=400, own=800)
    assert work(1, 2, shared=20, own=800) == pytest.approx(0.6 * work(1, 1, shared=20, own=800))


@pytest.mark.slow
@given(lengths=st.lists(st.integers(1, 50), min_size=4, max_size=40), count=st.sampled_from([1, 2, 4]))
def test_each_row_of_a_batch_is_in_one_share(lengths: list[int], count: int) -> None:
    batch = [{"input_ids": [0] * length, "labels": [number]} for number, length in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SHARES, str(count))
        shares = []
        for rank in range(count):
            patch.setenv("RANK", str(rank))
            shares.append(own_share(batch))
    assert all(shares)
    assert sorted(row["labels"][0] for rows in shares for row in rows) == list(range(len(lengths)))
    totals = [sum(len(row["input_ids"]) for row in rows) for rows in shares]
    assert max(totals) - min(totals) <= max(lengths)


def test_shares_take_the_steps_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(train={"batch_size": 32})
    alone = planned_steps(spec, 10_003)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", SHARES: "2"}.items():
        monkeypatch.setenv(name, value)
    assert planned_steps(spec, 10_003) == alone


def test_threads_are_the_requested_ones_or_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads() == 3
    for nonsense in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert threads() >= 1
