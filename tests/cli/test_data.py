"""`tunewright data check|fix`, with a project and with bare files."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_cli import Done, refused, tunewright
from tests.conftest import LABELS, spec_data, unalike, write_project
from tests.documents.samples import pdf
from tunewright.core.artifacts import read_jsonl
from tunewright.documents import read_document

pytestmark = pytest.mark.slow

ROWS = [
    {"body": "where is my parcel", "queue": "delivery"},
    {"body": "where is my parcel", "queue": "delivery"},
    {"body": "write to jane.doe@corp.test please", "queue": "Delivery"},
    {"body": "the invoice is wrong", "queue": "billing"},
    {"body": "I was charged twice in may", "queue": "billing"},
    {"body": "cancel my plan", "queue": "billing"},
]
COLUMNS = ("data.text=body", "data.label=queue")


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return path


def codes(done: Done) -> list[str]:
    return [finding["code"] for finding in json.loads(done.stdout)["findings"]]


def test_a_bare_file_is_checked_with_columns_named_on_the_line(export: Path) -> None:
    done = tunewright("data", "check", export, *COLUMNS)
    assert done.returncode == 0, done.stderr
    for said in ("6 rows that can be trained on", "D007", "export.jsonl:2", "scores of 100", "--only D007"):
        assert said in done.stdout
    assert "jane.doe" not in done.stdout + (export.parent / "data-check" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(("fail_on", "code"), [("error", 0), ("warning", 1), ("note", 1), ("never", 0)])
def test_the_exit_code_follows_fail_on(fail_on: str, code: int, export: Path) -> None:
    done = tunewright("data", "check", export, *COLUMNS, "--fail-on", fail_on)
    assert done.returncode == code
    assert ("Gate failed" in done.stderr) == bool(code)


def test_json_holds_every_finding_with_its_examples(export: Path) -> None:
    done = tunewright("data", "check", export, *COLUMNS, "--json")
    data = json.loads(done.stdout)
    assert data["rows"] == {"train": 6}
    (repeat,) = (finding for finding in data["findings"] if finding["code"] == "D007")
    assert repeat["count"] == 1
    assert repeat["examples"][0]["where"] == "export.jsonl:2"
    assert Path(data["report"]).is_file()


def test_a_second_check_replaces_the_first_but_nothing_else(export: Path) -> None:
    assert tunewright("data", "check", export, *COLUMNS).returncode == 0
    assert tunewright("data", "check", export, *COLUMNS).returncode == 0
    (export.parent / "mine").mkdir()
    (export.parent / "mine" / "letter.txt").write_text("dear")
    assert "holds other files" in refused(tunewright("data", "check", export, *COLUMNS, "--out", "mine"))


def test_a_file_where_a_folder_should_be_is_one_paragraph(export: Path) -> None:
    refused(tunewright("data", "check", export, *COLUMNS, "--out", export))
    refused(tunewright("data", "fix", export, *COLUMNS, "--only", "D007", "--out", export))


def test_wrong_words_are_one_paragraph(export: Path) -> None:
    assert "no such data file" in refused(tunewright("data", "check", "nothere.jsonl"))
    assert "did you mean 'label'" in refused(tunewright("data", "check", export, "data.lable=x"))
    assert not (export.parent / "data-check").exists()


def test_a_project_is_checked_by_its_spec(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "x", "label": "Refund"}\n')
    done = tunewright("data", "check", project, "--json")
    assert done.returncode == 1
    assert codes(done)[0] == "D002"
    assert tunewright("data", "check", project, "--json", "--fail-on", "never").returncode == 0


def test_a_projects_command_for_another_encoding_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    project = write_project(tmp_path / "my project")
    with (project / "train.jsonl").open("ab") as stream:
        stream.write(b'{"text": "\xfc", "label": "refund"}\n')
    done = tunewright("data", "check", project, "model=linear")
    line = f"iconv -f WINDOWS-1252 -t UTF-8 '{project / 'train.jsonl'}' > utf8-train.jsonl"
    assert line in done.stdout
    (there,) = json.loads(tunewright("data", "check", project, "model=linear", "--json").stdout)["findings"][:1]
    assert "UTF-8 train.jsonl >" in there["what"]
    assert line in tunewright("data", "split", project, "model=linear").stderr


def test_fix_writes_new_files_and_says_what_to_type_next(export: Path) -> None:
    before = export.read_bytes()
    done = tunewright("data", "fix", export, *COLUMNS, "--only", "D007,D013")
    assert done.returncode == 0, done.stderr
    assert "D007  1 rows" in done.stdout
    assert "D013  1 rows" in done.stdout
    assert export.read_bytes() == before
    again = tunewright("data", "check", "fixed/train.jsonl", "--json")
    assert {"D007", "D013"}.isdisjoint(codes(again))


def fixes(done: Done) -> list[list[str]]:
    """The words of the commands that `data check` prints to mend the data."""
    lines = [line for line in done.stdout.splitlines() if "tunewright data fix" in line]
    return [shlex.split(line.partition("tunewright ")[2]) for line in lines]


def test_check_prints_one_command_that_mends_everything(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = tunewright("data", "check", export, *COLUMNS)
    (words,) = fixes(done)
    assert words == ["data", "fix", str(export), *COLUMNS, "--only", "D007,D013,D015", "--key-file", "pii.key"]
    assert "head -c 32 /dev/urandom > pii.key" in done.stdout
    (export.parent / "pii.key").write_bytes(bytes(range(32)))
    fixed = tunewright(*words)
    assert fixed.returncode == 0, fixed.stderr
    # The folder of the first fix is taken.
    rows = [*ROWS, *({"body": f"parcel {n} is late", "queue": "delivery"} for n in (1, 1))]
    export.write_text("".join(json.dumps(row) + "\n" for row in rows[3:]), "utf-8")
    (words,) = fixes(tunewright("data", "check", export, *COLUMNS))
    assert words[-4:] == ["--only", "D007", "--out", "fixed-2"]
    assert tunewright(*words).returncode == 0


def printed(done: Done) -> list[str]:
    """The words of the command that `data fix` prints last."""
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout.strip().rsplit("check the new files: tunewright ", 1)[1])


@pytest.mark.parametrize("out", [None, "clean: rows"])
@pytest.mark.parametrize("form", [None, "labelled"])
def test_the_command_that_fix_prints_checks_the_new_files_of_a_project(
    form: str | None, out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project = write_project(tmp_path / "support desk", data={"train": "train.jsonl", "form": form})
    (project / "seen.jsonl").write_bytes((project / "train.jsonl").read_bytes())
    instruction = "task.instruction='Route the ticket: {labels}'"
    options = ["--out", out] if out else []
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "where is my red kettle", "label": "refund"}\n' * 2)
    done = tunewright(
        "data", "fix", "support desk", "data.test.seen=seen.jsonl", instruction, "--only", "D007", *options
    )
    words = printed(done)
    assert instruction in words
    again = tunewright(*words, "--json", "--fail-on", "never")
    report = json.loads(again.stdout)
    assert (report["rows"], report["quarantined"]) == ({"train": 91, "seen": 90}, 0)
    assert "D007" not in codes(again)


def test_the_command_that_fix_prints_checks_the_new_file_of_bare_data(export: Path) -> None:
    done = tunewright("data", "fix", export, *COLUMNS, "data.form=labelled", "--only", "D007", "--out", "new files")
    again = tunewright(*printed(done), "--json")
    assert json.loads(again.stdout)["rows"] == {"train": 5}
    assert "D009" not in codes(again)


def test_stand_ins_need_a_key_and_the_mapping_is_for_its_owner_alone(export: Path) -> None:
    assert "need a key" in refused(tunewright("data", "fix", export, *COLUMNS, "--only", "D015"))
    (export.parent / "short.key").write_bytes(b"short")
    assert "at least 16 bytes" in refused(
        tunewright("data", "fix", export, *COLUMNS, "--only", "D015", "--key-file", "short.key")
    )
    (export.parent / "pii.key").write_bytes(bytes(range(32)))
    line = ("data", "fix", export, *COLUMNS, "--only", "D015", "--key-file", "pii.key", "--mapping", "who.json")
    done = tunewright(*line, "--out", "clean")
    assert done.returncode == 0, done.stderr
    assert "jane.doe" not in (export.parent / "clean" / "train.jsonl").read_text("utf-8") + done.stdout
    assert "jane.doe@corp.test" in json.loads((export.parent / "who.json").read_text("utf-8"))
    assert (export.parent / "who.json").stat().st_mode & 0o777 == 0o600
    assert "This file exists" in refused(tunewright(*line, "--out", "other"))
    assert not (export.parent / "other").exists()


@pytest.mark.parametrize(
    ("only", "options", "message"),
    [
        ("D015", ("--mapping", "who.json"), "--mapping needs --key-file"),
        ("D007", ("--mapping", "who.json"), "--mapping is for stand-ins"),
        ("D007", ("--key-file", "pii.key"), "--key-file is for stand-ins"),
    ],
)
def test_an_option_of_stand_ins_that_would_do_nothing_is_refused(
    only: str, options: tuple[str, ...], message: str, export: Path
) -> None:
    (export.parent / "pii.key").write_bytes(bytes(range(32)))
    assert message in refused(tunewright("data", "fix", export, *COLUMNS, "--only", only, *options))
    assert not (export.parent / "fixed").exists()


@pytest.mark.parametrize("rows", [None, "no row\n", '{"body": "a", "queue": "b"}\n{"body": "c", "queue": "d"}\n'])
def test_a_fix_that_is_refused_leaves_no_folder(rows: str | None, export: Path) -> None:
    if rows is None:
        export.unlink()
    else:
        export.write_text(rows, "utf-8")
    tests = ("data.test.official=export.jsonl",) if rows and "body" in rows else ()
    refused(tunewright("data", "fix", export, *COLUMNS, *tests, "--only", "D007,D008"))
    assert not (export.parent / "fixed").exists()
    (export.parent / "fixed").mkdir()
    refused(tunewright("data", "fix", export, *COLUMNS, *tests, "--only", "D007,D008"))
    assert (export.parent / "fixed").is_dir(), "it was there before"


def test_ctrl_c_ends_all_at_once_and_leaves_nothing(export: Path) -> None:
    folder = export.parent
    row = json.dumps({"text": "my parcel with the blue kettle never arrived at the old house " * 5, "label": "x"})
    with (folder / "big.jsonl").open("w") as stream:
        for number in range(120_000):
            stream.write(f'{row[:-1]}, "n": {number}}}\n')
    # What starts the tests may have told its children to ignore Ctrl-C.
    entry = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    line = [sys.executable, "-c", f"{entry}; from tunewright.cli import main; main()", "data", "check", "big.jsonl"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(folder.glob("data-check/.parts-*/*/examples.jsonl")):
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Interrupted" in told
    assert "Traceback" not in told
    assert list((folder / "data-check").iterdir()) == []


def test_a_project_whose_rows_name_pdfs_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (project / "data" / "in").mkdir(parents=True)
    rows = []
    for number in range(12):
        lines = [(50.0, 50.0, f"Invoice {unalike(str(number))}"), (50.0, 80.0, "Total"), (300.0, 80.0, f"{number}.50")]
        (project / "data" / "in" / f"{number}.pdf").write_bytes(pdf(lines))
        rows.append({"file": f"in/{number}.pdf", "label": LABELS[number % 3]})
    rows.append({"file": "in/absent.pdf", "label": LABELS[0]})
    (project / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    data = {"train": "data/train.jsonl", "document": "file"}
    (project / "tunewright.yaml").write_text(json.dumps(spec_data(data=data)), "utf-8")
    monkeypatch.chdir("/")
    done = tunewright("data", "check", project, "--json", "--fail-on", "never")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows"], report["quarantined"]) == ({"train": 12}, 1)
    (unreadable,) = (finding for finding in report["findings"] if finding["code"] == "D009")
    assert "absent.pdf: There is no such document" in str(unreadable)
    examples = read_jsonl(Path(report["folder"]) / "examples" / "train.jsonl")
    name, total = examples[3]["messages"][0]["content"].split("\n\n")
    assert name == f"Invoice {unalike('3')}"
    assert total.split() == ["Total", "3.50"]
    assert total.startswith("Total   ")
    # Another PDF under the same name is another input.
    (project / "data" / "in" / "3.pdf").write_bytes(pdf([(50.0, 50.0, "changed")]))
    again = json.loads(tunewright("data", "check", project, "--json", "--fail-on", "never").stdout)
    assert again["folder"] != report["folder"]
    assert read_jsonl(Path(again["folder"]) / "examples" / "train.jsonl")[3]["messages"][0]["content"] == "changed"


def test_text_prints_documents_as_the_model_reads_them(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pdf", tmp_path / "b.eml"
    first.write_bytes(pdf([(50.0, 50.0, "Total"), (300.0, 50.0, "12.00")]))
    second.write_bytes(b"Subject: lamp\n\nbroken\n")
    done = tunewright("data", "text", first)
    assert done.returncode == 0, done.stderr
    assert done.stdout == read_document(first) + "\n"
    both = tunewright("data", "text", first, second).stdout
    assert both == f"==> {first} <==\n{read_document(first)}\n==> {second} <==\nSubject: lamp\n\nbroken\n"
    assert "no such document" in refused(tunewright("data", "text", tmp_path / "c.pdf"))
