"""The command line of one step, in processes of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import python, write_project
from tunewright.artifacts import read_manifest
from tunewright.data import load_dataset


def step(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "tunewright.step", *map(str, arguments), **environment)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one paragraph a refused step prints."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    *before, last = done.stderr.strip().splitlines()
    assert last.startswith("Error: ")
    assert not any(line.startswith("Error") for line in before)
    return last


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def test_check_then_split_make_a_dataset(project: Path) -> None:
    check, split = project / "check", project / "split"
    assert step("check", "--spec", project, "--out", check).returncode == 0
    assert step("split", "--spec", project, "--in", f"check={check}", "--out", split).returncode == 0
    dataset = load_dataset(split)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test["test"])] == [66, 6, 18]
    assert read_manifest(split)


def test_the_same_step_gives_the_same_content_again(project: Path, tmp_path: Path) -> None:
    twin = write_project(tmp_path / "twin")
    contents = []
    for folder in (project, twin):
        step("check", "--spec", folder, "--out", folder / "check")
        manifest = read_manifest(folder / "check")
        assert manifest
        contents.append(manifest.content)
    assert contents[0] == contents[1]


def test_a_broken_row_is_one_paragraph_with_its_place(project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "cut')
    message = refused(step("check", "--spec", project, "--out", project / "out"))
    assert f"{project / 'train.jsonl'}:91: The last line is cut off" in message
    assert not (project / "out").exists()


def test_a_missing_column_is_one_paragraph_with_the_columns_there_are(project: Path) -> None:
    write_project(project, data={"train": "train.jsonl", "label": "intent"})
    message = refused(step("check", "--spec", project, "--out", project / "out"))
    assert "train.jsonl:1: This row has no column 'intent'. Its columns are: text, label." in message


@pytest.mark.parametrize("value", ["null", "true", "1.5", '["a"]'])
def test_a_value_that_is_no_text_is_refused_with_its_place(value: str, project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write(f'{{"text": "x", "label": {value}}}\n')
    assert "train.jsonl:91: The column 'label' holds" in refused(
        step("check", "--spec", project, "--out", project / "o")
    )


def test_all_errors_of_the_data_are_listed_at_once(project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": " ", "label": "refund"}\n{"text": "x", "label": "Refund"}\n')
    message = refused(step("check", "--spec", project, "--out", project / "out"))
    assert "D001" in message
    assert "D002" in message


def test_a_warning_is_told_and_kept_but_stops_nothing(project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "refund question number 1", "label": "refund"}\n')
    done = step("check", "--spec", project, "--out", project / "out")
    assert done.returncode == 0
    assert "! D007" in done.stderr
    assert [f["code"] for f in json.loads((project / "out" / "findings.json").read_text())] == ["D007"]


def test_half_a_surrogate_pair_is_one_paragraph(project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "half \\ud83d", "label": "refund"}\n')
    assert "train.jsonl:91" in refused(step("check", "--spec", project, "--out", project / "out"))


def test_an_absent_spec_is_one_paragraph(tmp_path: Path) -> None:
    assert "There is no spec here" in refused(step("check", "--spec", tmp_path, "--out", tmp_path / "out"))


def test_an_input_of_a_wrong_form_is_one_paragraph(project: Path) -> None:
    message = refused(step("split", "--spec", project, "--in", "check", "--out", project / "out"))
    assert "'--in check' is not of the form NAME=PATH" in message


def test_a_missing_input_is_one_paragraph(project: Path) -> None:
    assert "needs --in check=PATH" in refused(step("split", "--spec", project, "--out", project / "out"))


def test_too_few_rows_to_hold_any_out_is_one_paragraph(project: Path) -> None:
    rows = ['{"text": "a", "label": "refund"}', '{"text": "b", "label": "billing"}']
    (project / "train.jsonl").write_text("\n".join(rows))
    step("check", "--spec", project, "--out", project / "check")
    done = step("split", "--spec", project, "--in", f"check={project / 'check'}", "--out", project / "out")
    assert "2 rows are too few" in refused(done)


def test_an_unknown_step_exits_with_2(project: Path) -> None:
    done = step("bogus", "--spec", project, "--out", project / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_error_is_left_in_a_file_where_the_caller_wants_that(project: Path, tmp_path: Path) -> None:
    done = step("split", "--spec", project, "--out", project / "out", TUNEWRIGHT_ERROR_FILE=str(tmp_path / "said"))
    assert (done.returncode, done.stderr) == (2, "")
    assert (tmp_path / "said").read_text().startswith("The step split needs")


def test_a_trace_can_be_asked_for(project: Path) -> None:
    done = step("split", "--spec", project, "--out", project / "out", TUNEWRIGHT_TRACE="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_data_steps_load_no_language_model_library(project: Path) -> None:
    script = (
        "import sys; from tunewright.step import main\n"
        "code = main(['check', '--spec', sys.argv[1], '--out', sys.argv[2]])\n"
        "print(code, [m for m in ('torch', 'transformers', 'sklearn', 'onnxruntime') if m in sys.modules])"
    )
    assert python("-c", script, str(project), str(project / "out")).stdout.strip() == "0 []"
