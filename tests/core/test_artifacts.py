from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.conftest import python
from tunewright.core import artifacts
from tunewright.core.artifacts import (
    FINGERPRINT,
    MANIFEST,
    Output,
    atomic_folder,
    partial_of,
    peak_memory_mb,
    read_jsonl,
    read_manifest,
    sha256_tree,
    write_json,
    write_jsonl,
)
from tunewright.core.errors import UserError


def writing(target: Path, keep: Sequence[str] = (), fingerprint: str = "f") -> AbstractContextManager[Output]:
    return atomic_folder(
        target,
        kind="k",
        fingerprint=fingerprint,
        spec_sha256="s",
        inputs={"a": "b"},
        seed=7,
        code_version="1",
        keep=keep,
    )


def make(target: Path, text: str = "hello") -> None:
    with writing(target) as output:
        (output.path / "sub").mkdir()
        (output.path / "sub" / "file.txt").write_text(text)
        output.result = {"rows": 3}


def test_a_finished_folder_is_whole_and_alone(tmp_path: Path) -> None:
    make(tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "file.txt").read_text() == "hello"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_who_can_read_the_output_can_read_its_weights(umask: int, mode: int, tmp_path: Path) -> None:
    """An image's user is another one than who trained."""
    before = os.umask(umask)
    try:
        with writing(tmp_path / "out") as output:
            (output.path / "linear").mkdir()
            save_file({"weight": np.zeros(3)}, output.path / "linear" / "weights.safetensors")
    finally:
        os.umask(before)
    made = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert {file.name: file.stat().st_mode & 0o777 for file in made} == {
        "manifest.json": mode,
        "weights.safetensors": mode,
    }


def test_the_manifest_says_what_the_folder_was_made_from(tmp_path: Path) -> None:
    make(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest
    assert (manifest.kind, manifest.fingerprint, manifest.spec_sha256, manifest.seed) == ("k", "f", "s", 7)
    assert (manifest.inputs, manifest.files, manifest.result) == ({"a": "b"}, {"sub/file.txt": 5}, {"rows": 3})
    assert manifest.libraries["python"].startswith("3.")
    assert manifest.peak_memory_mb > 1


@pytest.mark.slow
def test_peak_memory_is_not_that_of_the_parent_process() -> None:
    held = bytearray(b"x") * 400_000_000
    script = "from tunewright.core.artifacts import peak_memory_mb; print(peak_memory_mb())"
    said = python("-c", script).stdout
    assert len(held) / 1e6 < peak_memory_mb()
    assert 1 < float(said) < 300


def test_an_exception_leaves_no_target(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing(tmp_path / "out") as output:
        (output.path / "half").write_text("x")
        raise RuntimeError
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_kill_leaves_no_target(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from tests.core.test_artifacts import writing\n"
        "with writing(Path(sys.argv[1])) as output:\n"
        "    (output.path / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = python("-c", script, str(tmp_path / "out"), PYTHONPATH=str(Path(__file__).parents[2]))
    assert done.returncode == -9
    assert [p.name for p in tmp_path.iterdir()] == [".out.partial"]


def test_an_exception_leaves_an_older_target_as_it_was(tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(RuntimeError), writing(tmp_path / "out"):
        raise RuntimeError
    assert read_manifest(tmp_path / "out")


def test_success_replaces_an_older_target(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    make(tmp_path / "out", "new")
    assert (tmp_path / "out" / "sub" / "file.txt").read_text() == "new"


def test_a_full_disk_at_the_very_end_loses_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        if path.name == MANIFEST:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_json(path, value)

    monkeypatch.setattr(artifacts, "write_json", full)
    with pytest.raises(OSError, match="No space"), writing(tmp_path / "out", ("answers",)) as output:
        (output.path / "answers").write_text("hours of work")
    monkeypatch.undo()
    with writing(tmp_path / "out", ("answers",)) as output:
        assert (output.path / "answers").read_text() == "hours of work"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["answers", MANIFEST]


def interrupted(target: Path, fingerprint: str = "f") -> None:
    with pytest.raises(RuntimeError), writing(target, ("checkpoints",), fingerprint) as output:
        (output.path / "checkpoints").mkdir()
        (output.path / "checkpoints" / "1").write_text("x")
        (output.path / "debris").mkdir()
        (output.path / "debris.txt").write_text("x")
        raise RuntimeError


def test_only_kept_names_survive_an_interruption(tmp_path: Path) -> None:
    interrupted(tmp_path / "out")
    with writing(tmp_path / "out", keep=("checkpoints",)) as output:
        assert {p.name for p in output.path.iterdir()} == {"checkpoints", ".fingerprint"}
        assert (output.path / "checkpoints" / "1").read_text() == "x"


def wall_seconds(target: Path) -> float:
    manifest = read_manifest(target)
    assert manifest
    return manifest.wall_seconds


@pytest.mark.parametrize("killed", [False, True])
def test_the_time_of_a_step_is_that_of_all_its_tries(tmp_path: Path, killed: bool) -> None:
    """Twice, a try writes a checkpoint after an hour, works on for another, and is interrupted or killed."""
    partial, target = partial_of(tmp_path / "out"), tmp_path / "out"
    for number in ("1", "2"):
        marked = b""
        with pytest.raises(KeyboardInterrupt), writing(target, ("checkpoints",)) as output:
            marker, folder = output.path / FINGERPRINT, output.path / "checkpoints"
            folder.mkdir(exist_ok=True)
            (folder / number).write_text("x")
            marked, began = marker.read_bytes(), time.time() - 7200
            os.utime(marker, (began, began))
            for file in folder.iterdir():
                at = began + 3600 if file.name == number else began - 3600
                os.utime(file, (at, at))
            raise KeyboardInterrupt
        if killed:  # nobody wrote the marker anew
            (partial / FINGERPRINT).write_bytes(marked)
            os.utime(partial / FINGERPRINT, (began, began))
    with writing(target, ("checkpoints",)):
        pass
    assert wall_seconds(target) == pytest.approx(7200, abs=60)


def test_the_time_of_other_work_does_not_count(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "out", ("checkpoints",)) as output:
        os.utime(output.path / FINGERPRINT, (0, 0))
        (output.path / "checkpoints").write_text("x")
        raise KeyboardInterrupt
    with writing(tmp_path / "out", ("checkpoints",), fingerprint="g"):
        pass
    assert wall_seconds(tmp_path / "out") < 60


def test_an_interruption_with_nothing_to_keep_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing(tmp_path / "out", keep=("checkpoints",)) as output:
        (output.path / "debris.txt").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_of_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        writing(tmp_path / "out"),
        pytest.raises(UserError, match="Another Tunewright process"),
        writing(tmp_path / "out"),
    ):
        pass


def test_nothing_is_kept_of_other_work_in_the_same_place(tmp_path: Path) -> None:
    interrupted(tmp_path / "out", fingerprint="f")
    with writing(tmp_path / "out", keep=("checkpoints",), fingerprint="g") as output:
        assert [p.name for p in output.path.iterdir()] == [".fingerprint"]


def test_a_file_of_another_size_makes_a_folder_not_whole(tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out" / "sub" / "file.txt").write_text("hell")
    assert read_manifest(tmp_path / "out") is None


def test_an_absent_file_makes_a_folder_not_whole(tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out" / "sub" / "file.txt").unlink()
    assert read_manifest(tmp_path / "out") is None


@pytest.mark.parametrize("text", ["", "{", "{}", '{"schema_version": 1}'])
def test_an_unreadable_manifest_makes_a_folder_not_whole(text: str, tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out" / MANIFEST).write_text(text)
    assert read_manifest(tmp_path / "out") is None


@pytest.mark.parametrize("text", ["[]", "null", "3"])
def test_a_manifest_that_is_no_object_makes_a_folder_not_whole(text: str, tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out" / MANIFEST).write_text(text)
    assert read_manifest(tmp_path / "out") is None


def test_a_manifest_of_another_schema_version_is_not_read(tmp_path: Path) -> None:
    make(tmp_path / "out")
    data = json.loads((tmp_path / "out" / MANIFEST).read_text())
    write_json(tmp_path / "out" / MANIFEST, data | {"schema_version": 1})
    assert read_manifest(tmp_path / "out") is None


def test_a_folder_that_is_not_there_has_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "absent") is None


def test_the_content_hash_does_not_depend_on_the_place(tmp_path: Path) -> None:
    make(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "elsewhere" / "copy")
    manifest = read_manifest(tmp_path / "out")
    assert manifest
    assert sha256_tree(tmp_path / "elsewhere" / "copy")[0] == manifest.content == sha256_tree(tmp_path / "out")[0]


def test_the_content_hash_depends_on_bytes_and_names(tmp_path: Path) -> None:
    make(tmp_path / "a", "hello")
    make(tmp_path / "b", "hallo")
    make(tmp_path / "c", "hello")
    (tmp_path / "c" / "sub" / "file.txt").rename(tmp_path / "c" / "sub" / "other.txt")
    assert len({sha256_tree(tmp_path / name)[0] for name in "abc"}) == 3


def test_a_file_is_not_replaced_by_half_of_another(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"n": 1}])

    def rows() -> Iterable[dict[str, int]]:
        yield {"n": 2}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(path, rows())
    assert read_jsonl(path) == [{"n": 1}]


def test_rows_with_any_text_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [{"text": "line\nbreak \u2028 \x85 Größe 😀"}, {"text": ""}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
