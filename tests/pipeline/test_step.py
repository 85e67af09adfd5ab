"""The command line of one step: what it writes and says, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from tests.conftest import python, write_project
from tunewright.core.artifacts import read_manifest
from tunewright.data import load_dataset
from tunewright.data.dataset import load_examples
from tunewright.pipeline.step import main

pytestmark = pytest.mark.slow


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "tunewright.pipeline.step", *map(str, arguments), **environment)


def step(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, which takes a tenth of the time."""
    words, before = [str(each) for each in arguments], signal.getsignal(signal.SIGTERM)
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as errors:
        try:
            code = main(words)
        finally:
            signal.signal(signal.SIGTERM, before)
    return subprocess.CompletedProcess(words, code, out.getvalue(), errors.getvalue())


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one paragraph a refused step prints."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    *before, last = done.stderr.strip().splitlines()
    assert last.startswith("Error: ")
    assert not any(line.startswith("Error") for line in before)
    return last


def refused_data(project: Path) -> str:
    """The check writes its findings down; the split refuses the data and names all errors."""
    check, split = project / "check", project / "split"
    done = step("check", "--spec", project, "--out", check)
    assert done.returncode == 0, done.stderr
    message = refused(step("split", "--spec", project, "--in", f"check={check}", "--out", split))
    assert not split.exists()
    return message


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def test_check_then_split_make_a_dataset(project: Path) -> None:
    check, split = project / "check", project / "split"
    assert process("check", "--spec", project, "--out", check).returncode == 0
    assert process("split", "--spec", project, "--in", f"check={check}", "--out", split).returncode == 0
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
    message = refused_data(project)
    assert message.startswith(f"Error: {project / 'train.jsonl'}:91: The data can't be used: D009")
    assert "The last line is cut off" in message


def test_a_row_that_cannot_be_read_goes_to_quarantine_and_some_can_be_allowed(project: Path) -> None:
    write_project(project, data={"train": "train.jsonl", "max_unreadable": 0.05})
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "x", "label": null}\n')
    done = step("check", "--spec", project, "--out", project / "check")
    assert "! D009 train: 1 of 91 rows can't be read: content-type (1)" in done.stderr
    (row,) = map(json.loads, (project / "check" / "quarantine" / "train.jsonl").read_text().splitlines())
    assert row["where"] == "train.jsonl:91", "as it is called wherever the data lies"
    assert json.loads(row["raw"]) == {"text": "x", "label": None}
    split = step("split", "--spec", project, "--in", f"check={project / 'check'}", "--out", project / "split")
    assert split.returncode == 0, split.stderr


def test_a_folder_of_files_in_several_formats_is_one_dataset(project: Path) -> None:
    rows = [json.loads(line) for line in (project / "train.jsonl").read_text().splitlines()]
    (project / "parts").mkdir()
    (project / "parts" / "a.csv").write_text(
        "text,label,agent\n" + "".join(f"{r['text']},{r['label']},x\n" for r in rows[:45])
    )
    chat = [
        {"messages": [{"role": "user", "content": r["text"]}, {"role": "assistant", "content": r["label"]}]}
        for r in rows[45:]
    ]
    (project / "parts" / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chat))
    write_project(project, data={"train": "parts"})
    assert step("check", "--spec", project, "--out", project / "check").returncode == 0
    examples = load_examples(project / "check" / "examples" / "train.jsonl")
    assert [(e.request, e.answer) for e in examples] == [(r["text"], r["label"]) for r in rows]
    assert examples[0].meta.id == "train-a.csv:2"
    assert not examples[0].meta.extra, "columns that the spec does not name are left out"


def test_a_missing_column_is_one_paragraph_with_the_columns_there_are(project: Path) -> None:
    write_project(project, data={"train": "train.jsonl", "label": "intent"})
    message = refused_data(project)
    assert f"{project / 'train.jsonl'}:1: " in message
    assert "This row has no key 'intent', which the form 'labelled' needs; it has 'text', 'label'" in message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"text": "x", "label": null}', "'label' is missing"),
        ('{"text": true, "label": "refund"}', "'text' holds 'True'"),
        ('{"text": 1.5, "label": "refund"}', "'text' holds '1.5'"),
    ],
)
def test_a_value_that_is_no_text_is_refused_with_its_place(row: str, said: str, project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write(f"{row}\n")
    message = refused_data(project)
    assert "train.jsonl:91: " in message
    assert f"The column {said}" in message


def test_true_is_a_label_that_the_spec_lacks(project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "x", "label": true}\n')
    assert "D002 train: 1 rows have a label the spec lacks: 'True'" in refused_data(project)


def test_a_list_where_one_label_belongs_is_a_label_that_the_spec_lacks(project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "x", "label": ["refund"]}\n')
    assert """D002 train: 1 rows have a label the spec lacks: '["refund"]'""" in refused_data(project)


def test_all_errors_of_the_data_are_listed_at_once(project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": " ", "label": "refund"}\n{"text": "x", "label": "Refund"}\n')
    message = refused_data(project)
    assert "D001" in message
    assert "D002" in message


def test_a_warning_is_told_and_kept_but_stops_nothing(project: Path) -> None:
    with (project / "train.jsonl").open("r+") as stream:
        stream.write(list(stream)[-1])
    done = step("check", "--spec", project, "--out", project / "out")
    assert done.returncode == 0
    assert "! D007" in done.stderr
    found = json.loads((project / "out" / "findings.json").read_text())
    assert [(f["code"], f["severity"]) for f in found["findings"]] == [
        ("D007", "warning"),
        ("D023", "note"),
    ]
    assert found["rows"] == {"train": 91}
    assert "D023" not in done.stderr, "notes are for those who look at the data"


def test_half_a_surrogate_pair_is_one_paragraph(project: Path) -> None:
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "half \\ud83d", "label": "refund"}\n')
    assert "train.jsonl:91" in refused_data(project)


def test_an_absent_spec_is_one_paragraph(tmp_path: Path) -> None:
    assert "There is no spec here" in refused(step("check", "--spec", tmp_path, "--out", tmp_path / "out"))


def test_a_step_takes_overrides(project: Path) -> None:
    message = refused(step("check", "data.train=absent.jsonl", "--spec", project, "--out", project / "out"))
    assert "absent.jsonl" in message


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
    done = process("bogus", "--spec", project, "--out", project / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_error_is_left_in_a_file_where_the_caller_wants_that(project: Path, tmp_path: Path) -> None:
    done = process("split", "--spec", project, "--out", project / "out", TUNEWRIGHT_ERROR_FILE=str(tmp_path / "said"))
    assert (done.returncode, done.stderr) == (2, "")
    assert (tmp_path / "said").read_text().startswith("The step split needs")


def test_a_trace_can_be_asked_for(project: Path) -> None:
    done = process("split", "--spec", project, "--out", project / "out", TUNEWRIGHT_TRACE="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_data_steps_load_no_language_model_library(project: Path) -> None:
    script = (
        "import sys; from tunewright.pipeline.step import main\n"
        "code = main(['check', '--spec', sys.argv[1], '--out', sys.argv[2]])\n"
        "print(code, [m for m in ('torch', 'transformers', 'onnxruntime') if m in sys.modules])"
    )
    assert python("-c", script, str(project), str(project / "out")).stdout.strip() == "0 []"
