"""The files that a step may resume from outlive the node, whole or not at all."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from tunewright.backends.azure import carrier, node
from tunewright.backends.azure.carrier import Carrier
from tunewright.core.artifacts import FINGERPRINT


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "kept").mkdir()
    folder = tmp_path / ".made.partial"
    folder.mkdir()
    (folder / FINGERPRINT).write_text("abc")
    return folder


def carried(disk: Path) -> Carrier:
    return Carrier(disk, disk.parent / "kept", ["checkpoints"])


def checkpoint(disk: Path, number: int, at: float) -> Path:
    """A checkpoint whose files are written one after the other, its state last, although its name sorts in between."""
    folder = disk / "checkpoints" / f"checkpoint-{number}"
    folder.mkdir(parents=True)
    for place, name in enumerate(("weights", "optimizer", "a_state.json")):
        (folder / name).write_text(f"{name} {number}")
        os.utime(folder / name, (at + place, at + place))
    return folder


def fetched(disk: Path) -> dict[str, str]:
    """The files that the next node gets."""
    other = disk.parent / "next" / ".made.partial"
    shutil.rmtree(other, ignore_errors=True)
    Carrier(other, disk.parent / "kept", ["checkpoints"]).fetch()
    return {p.relative_to(other).as_posix(): p.read_text() for p in sorted(other.rglob("*")) if p.is_file()}


def test_files_go_in_the_order_they_were_written(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(disk, 1, 100)
    (disk / "adapter.bin").write_text("what is no checkpoint stays")
    sent: list[str] = []
    real = Carrier._send

    def send(self: Carrier, name: Path, stamp: tuple[int, int]) -> None:
        sent.append(name.name)
        real(self, name, stamp)

    monkeypatch.setattr(Carrier, "_send", send)
    carried(disk).carry()
    assert [name for name in sent if name != FINGERPRINT] == ["weights", "optimizer", "a_state.json"]
    assert set(fetched(disk)) == {FINGERPRINT, *(f"checkpoints/checkpoint-1/{n}" for n in sent if n != FINGERPRINT)}


def test_nothing_goes_twice_and_what_changed_goes_again(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(disk, 1, 100)
    here = carried(disk)
    here.carry()
    monkeypatch.setattr(carrier.shutil, "copyfile", lambda *_: pytest.fail("it goes again"))
    here.carry()
    monkeypatch.undo()
    (folder / "weights").write_text("of the same size"[:9])
    here.carry()
    assert fetched(disk)["checkpoints/checkpoint-1/weights"] == "of the sa"


def test_what_was_torn_does_not_come_back(disk: Path) -> None:
    """The node was lost while a file or its mark was written; a file without a mark does not count."""
    checkpoint(disk, 1, 100)
    carried(disk).carry()
    kept = disk.parent / "kept" / "checkpoints" / "checkpoint-1"
    (kept / "weights").write_text("wei")
    (kept / "optimizer.whole").write_text("")
    (kept / "stray").write_text("half")
    assert set(fetched(disk)) == {FINGERPRINT, "checkpoints/checkpoint-1/a_state.json"}


def test_old_checkpoints_go_and_at_the_end_the_last_one_stays(disk: Path) -> None:
    first = checkpoint(disk, 1, 100)
    here = carried(disk)
    here.carry()
    checkpoint(disk, 2, 200)
    for path in first.iterdir():
        path.unlink()
    here.carry()
    assert {name.split("/")[1] for name in fetched(disk) if "/" in name} == {"checkpoint-2"}
    # The training is over and has cleared away; its output is not handed over yet.
    for path in (disk / "checkpoints").rglob("*"):
        if path.is_file():
            path.unlink()
    (disk / FINGERPRINT).unlink()
    here.carry()
    assert len([name for name in fetched(disk) if "checkpoint-2" in name]) == 3
    assert fetched(disk)[FINGERPRINT] == "abc"
    here.clear()
    assert not [path for path in (disk.parent / "kept").rglob("*") if path.is_file()]


def test_an_old_checkpoint_stays_until_the_new_one_is_there(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan saw the new one while it was written, and the old one after it was deleted."""
    first = checkpoint(disk, 1, 100)
    here = carried(disk)
    here.carry()
    second = checkpoint(disk, 2, 200)
    (second / "a_state.json").unlink()
    for path in first.iterdir():
        path.unlink()
    real, looks = Carrier._here, iter(("half", "whole"))

    def look(self: Carrier) -> dict[Path, tuple[int, int]]:
        if next(looks, "whole") == "whole" and not (second / "a_state.json").exists():
            (second / "a_state.json").write_text("whole")
        return real(self)

    monkeypatch.setattr(Carrier, "_here", look)
    here.carry()
    assert len([name for name in fetched(disk) if "checkpoint-1" in name]) == 3
    here.carry()
    assert {name.split("/")[1] for name in fetched(disk) if "/" in name} == {"checkpoint-2"}


def test_a_mount_that_fails_fails_no_step(
    disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Carrier) -> None:  # noqa: ARG001
        raise PermissionError("not permitted")

    monkeypatch.setattr(Carrier, "carry", fail)
    monkeypatch.setattr(carrier, "_SECONDS", 0.01)
    ended = threading.Event()
    thread = threading.Thread(target=carried(disk).until, args=(ended,))
    thread.start()
    ended.wait(0.05)
    ended.set()
    thread.join(5)
    assert not thread.is_alive()
    assert capsys.readouterr().err.count("not permitted") == 1


def test_a_node_hands_over_the_manifest_last_and_errors_without_its_own_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    for name in ("manifest.json", "z.txt", "deep/manifest.json"):
        (made / name).write_text(name)
    order: list[str] = []
    real = node._copy
    monkeypatch.setattr(node, "_copy", lambda one, two: (order.append(Path(one).as_posix()), real(one, two))[1])
    out = tmp_path / "out"
    out.mkdir()
    (out / node.ERROR).write_text("of an earlier try")
    node._hand_over(0, tmp_path / "said", out, {})
    assert order[-1] == "made/manifest.json" and len(order) == 3
    assert not (out / node.ERROR).exists()
    (tmp_path / "said").write_text(f"{tmp_path}/in/train.jsonl:3: Bad.")
    node._hand_over(2, tmp_path / "said", out, {"data.train": tmp_path / "in"})
    assert (out / node.ERROR).read_text() == "azureml://inputs/data.train/train.jsonl:3: Bad."
    assert "azureml://inputs/data.train" in capsys.readouterr().err
