"""`tunewright init`, from a data file and from an example."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.cli.test_cli import refused, tunewright
from tests.conftest import REPOSITORY, write_project
from tunewright.cli.init import example_names, examples_folder

EXAMPLES = ["article", "invoices", "replies", "tickets"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "support desk")


def test_it_writes_a_spec_that_show_reads(project: Path) -> None:
    (project / "tunewright.yaml").unlink()
    done = tunewright("init", project / "train.jsonl")
    assert done.returncode == 0
    assert "classify, 90 rows, 3 labels, input in 'text', answers in 'label'" in done.stdout
    shown = json.loads(tunewright("spec", "show", project).stdout)
    assert list(shown["task"]["labels"]) == ["billing", "defect", "refund"]
    assert shown["train"]["lora"]["r"] == 16
    assert shown["name"] == "support-desk"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tickets.jsonl", "tickets"),
        ("tickets_train.jsonl", "tickets_train"),
        ("train.jsonl", "support-desk"),
        ("Training.jsonl", "support-desk"),
        ("train-00000-of-00001.jsonl", "support-desk"),
        ("data/train.jsonl", "support-desk"),
        ("raw/data/test_2.jsonl", "support-desk"),
        ("routes/data.jsonl", "routes"),
    ],
)
def test_the_project_is_called_after_its_data_or_its_folder(file: str, name: str, project: Path) -> None:
    data = project / file
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_bytes((project / "train.jsonl").read_bytes())
    spec = project / "new.yaml"
    assert tunewright("init", data, "--out", spec).returncode == 0
    assert json.loads(tunewright("spec", "show", spec).stdout)["name"] == name


def test_a_data_file_named_from_its_own_folder_gives_the_folders_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert tunewright("init", "train.jsonl", "--out", "new.yaml").returncode == 0
    assert json.loads(tunewright("spec", "show", "new.yaml").stdout)["name"] == "support-desk"


def test_it_leaves_a_spec_that_exists_as_it_was(project: Path) -> None:
    before = (project / "tunewright.yaml").read_text()
    assert "This file exists" in refused(tunewright("init", project / "train.jsonl"))
    assert (project / "tunewright.yaml").read_text() == before


def test_it_writes_where_out_says_with_a_path_that_holds_from_there(project: Path) -> None:
    (project / "sub").mkdir()
    assert tunewright("init", project / "train.jsonl", "--out", project / "sub" / "tunewright.yaml").returncode == 0
    assert json.loads(tunewright("spec", "show", project / "sub").stdout)["data"]["train"] == "../train.jsonl"


@pytest.mark.parametrize(("name", "typed"), [("tunewright.yaml", "sub"), ("mine.yaml", "sub/mine.yaml")])
def test_the_command_it_names_finds_the_spec_it_wrote(project: Path, name: str, typed: str) -> None:
    (project / "sub").mkdir()
    done = tunewright("init", project / "train.jsonl", "--out", project / "sub" / name)
    (named,) = shlex.split(done.stdout.strip().rsplit("tunewright run ", 1)[1])
    assert named == str(project / typed)
    assert tunewright("spec", "show", named).returncode == 0


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("out", ["my spec/", "my spec", "deep/spec.v2"])
def test_out_without_a_yaml_suffix_is_a_folder(
    out: str, exists: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    if exists:
        Path(out).mkdir(parents=True)
    done = tunewright("init", "train.jsonl", "--out", out)
    assert done.returncode == 0, done.stderr
    (named,) = shlex.split(done.stdout.strip().rsplit("tunewright run ", 1)[1])
    assert json.loads(tunewright("spec", "show", named).stdout)["data"]["train"].endswith("train.jsonl")
    assert "This file exists" in refused(tunewright("init", "train.jsonl", "--out", out))


def test_nothing_is_left_where_no_spec_can_be_written(tmp_path: Path) -> None:
    refused(tunewright("init", tmp_path / "absent.jsonl", "--out", tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_the_data_of_a_projects_own_folder_do_not_grow(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    Path("tunewright.yaml").unlink()
    assert tunewright("init", ".").returncode == 0
    assert json.loads(tunewright("spec", "show", ".").stdout)["data"]["train"] == "train.jsonl"
    counts = []
    for train in ("train.jsonl", ".", "."):
        assert tunewright("data", "split", ".", f"data.train={train}", "model=linear").returncode == 0
        done = tunewright("data", "check", ".", f"data.train={train}", "model=linear", "--json")
        counts.append(json.loads(done.stdout)["rows"]["train"])
    assert counts == [90] * 3


def test_columns_beside_pairs_are_named_with_what_to_set(tmp_path: Path) -> None:
    rows = [f"T{n},where is parcel {n},It is at {n},{'ab'[n % 2]}" for n in range(30)]
    (tmp_path / "d.csv").write_text("\n".join(["ticket,request,response,category", *rows]), "utf-8")
    done = tunewright("init", tmp_path / "d.csv")
    assert "category (2). If one is the answer, set data.text and data.label." in done.stdout


def test_a_data_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "There is no such data file" in refused(tunewright("init", tmp_path / "absent.jsonl"))


def test_the_examples_are_those_of_the_repository() -> None:
    assert examples_folder() == REPOSITORY / "examples"
    assert example_names() == EXAMPLES


def test_an_example_is_written_into_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = tunewright("init", "--example", "tickets")
    assert done.stdout.splitlines()[-1] == "tunewright run tickets"
    there = sorted(str(path.relative_to("tickets")) for path in Path("tickets").rglob("*"))
    data = ["data/test.jsonl", "data/test_unseen_phrasing.jsonl", "data/train.jsonl"]
    assert there == ["data", *data, "make_data.py", "phrasings.txt", "tunewright.yaml"]
    for name in (*data, "phrasings.txt"):
        assert (Path("tickets") / name).read_bytes() == (REPOSITORY / "examples" / "tickets" / name).read_bytes()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_files_of_an_example_name_commands_that_work_where_it_is(name: str, tmp_path: Path) -> None:
    there = tmp_path / "mine"
    verb = "assess" if name == "article" else "run"
    done = tunewright("init", "--example", name, "--out", there)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"tunewright {verb} {there}")
    text = (there / "tunewright.yaml").read_text("utf-8")
    assert f"tunewright {verb} {there}" in text
    assert f"examples/{name}" not in text


def test_an_example_goes_into_an_empty_folder_and_over_nothing(tmp_path: Path) -> None:
    assert tunewright("init", "--example", "article", "--out", tmp_path).returncode == 0
    spec = tmp_path / "tunewright.yaml"
    spec.write_text("mine", "utf-8")
    line = refused(tunewright("init", "--example", "article", "--out", tmp_path))
    assert str(tmp_path) in line and "exists already" in line and "--out" in line
    assert spec.read_text("utf-8") == "mine"
    assert "exists already" in refused(tunewright("init", "--example", "article", "--out", spec))


def test_what_was_run_in_the_repository_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "examples" / "mine"
    (source / "runs" / "check-1").mkdir(parents=True)
    (source / "__pycache__").mkdir()
    for name in ("tunewright.yaml", "runs/check-1/report.html", "__pycache__/make_data.pyc"):
        (source / name).write_text("x", "utf-8")
    monkeypatch.setattr("tunewright.cli.init.examples_folder", lambda: tmp_path / "examples")
    assert tunewright("init", "--example", "mine", "--out", tmp_path / "copy").returncode == 0
    assert [path.name for path in (tmp_path / "copy").rglob("*")] == ["tunewright.yaml"]


@pytest.mark.parametrize("name", ["tickts", "../tickets", "", "nothing-like-it"])
def test_an_example_that_there_is_not_is_answered_with_those_there_are(name: str, tmp_path: Path) -> None:
    line = refused(tunewright("init", "--example", name, "--out", tmp_path / "there"))
    assert f"The examples are: {', '.join(EXAMPLES)}." in line
    assert ("Did you mean 'tickets'?" in line) == ("tick" in name)
    assert not (tmp_path / "there").exists()


def test_what_to_compare_with_is_there_without_the_repository(tmp_path: Path) -> None:
    spec, data = tmp_path / "tunewright.yaml", tmp_path / "data.jsonl"
    spec.write_text("- tickets\n", "utf-8")
    data.write_text("".join(json.dumps({"id": number}) + "\n" for number in range(30)), "utf-8")
    for done in (tunewright("run", spec), tunewright("init", data, "--out", tmp_path / "new.yaml")):
        line = refused(done)
        assert "tunewright init --example tickets" in line
        assert "examples/" not in line


def test_neither_data_nor_an_example_is_refused_with_both() -> None:
    line = refused(tunewright("init"))
    assert "tunewright init YOUR_DATA.jsonl" in line and "tunewright init --example tickets" in line


def test_data_and_an_example_together_are_refused(project: Path) -> None:
    assert "either a data file or --example" in refused(
        tunewright("init", project / "train.jsonl", "--example", "tickets")
    )
