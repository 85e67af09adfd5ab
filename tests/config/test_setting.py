"""Setting a key in a user's file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.conftest import write_project
from tunewright.config import load_spec
from tunewright.config.setting import set_keys
from tunewright.core.errors import UserError

SPEC = """# Ours.
name: tickets
task:
    kind: classify   # one of two
    instruction: |
        Route it:
        {labels}

        Thanks.
    labels: [a, b]
data: {train: train.jsonl}  # all of it
"""


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "tunewright.yaml"
    file.write_text(text, encoding, newline="")
    return file


def test_a_key_is_a_line_more_and_nothing_else_changes(tmp_path: Path) -> None:
    file = written(tmp_path, SPEC)
    assert set_keys(tmp_path, {"task.leave_out": "list"}) == file
    kind = "    kind: classify   # one of two\n"
    assert file.read_text("utf-8") == SPEC.replace(kind, f"{kind}    leave_out: list\n")
    assert load_spec(tmp_path).task.model_dump()["leave_out"] == "list"


def test_a_key_that_is_there_gets_its_new_value(tmp_path: Path) -> None:
    text = SPEC.replace("    labels", "    leave_out: descriptions # tried\n    labels")
    file = written(tmp_path, text)
    set_keys(file, {"task.leave_out": "list"})
    assert file.read_text("utf-8") == text.replace("descriptions", "list")


def test_line_ends_and_a_byte_order_mark_stay(tmp_path: Path) -> None:
    text = SPEC.replace("\n", "\r\n")
    file = written(tmp_path, text, "utf-8-sig")
    set_keys(file, {"task.leave_out": "list"})
    kind = "    kind: classify   # one of two\r\n"
    assert file.read_bytes().decode("utf-8-sig") == text.replace(kind, f"{kind}    leave_out: list\r\n")
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_link_stays_and_so_does_the_mode_of_the_file_that_it_leads_to(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    file = written(shared, SPEC)
    file.chmod(0o640)
    link = tmp_path / "tunewright.yaml"
    link.symlink_to(file)
    assert set_keys(tmp_path, {"task.leave_out": "list"}) == link
    assert link.is_symlink()
    assert "leave_out: list" in file.read_text("utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [each.name for each in shared.iterdir()] == ["tunewright.yaml"]


def test_a_text_of_several_lines_is_one_line(tmp_path: Path) -> None:
    file = written(tmp_path, SPEC)
    set_keys(file, {"task.instruction_note": 'say "hello":\n{text}\n'})
    assert '    instruction_note: "say \\"hello\\":\\n{text}\\n"\n' in file.read_text("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        SPEC.replace("task:\n", "task: &job\n").replace("data:", "other: *job\ndata:"),
        SPEC.replace("    labels", "    leave_out: >\n        list\n    labels"),
    ],
    ids=["an anchor", "a folded text"],
)
def test_what_can_not_be_set_safely_is_left_alone(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UserError, match="leave_out: instruction"):
        set_keys(file, {"task.leave_out": "instruction"})
    assert file.read_text("utf-8") == text


def test_a_section_in_braces_is_left_alone(tmp_path: Path) -> None:
    project = write_project(tmp_path)  # JSON, which is YAML too
    before = (project / "tunewright.yaml").read_bytes()
    with pytest.raises(UserError, match="Add leave_out: list to its section 'task'"):
        set_keys(project, {"task.leave_out": "list"})
    assert (project / "tunewright.yaml").read_bytes() == before
