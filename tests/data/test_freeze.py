"""`tunewright data freeze` as it is typed, on a project that is really split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.conftest import LABELS, make_spec, unalike, write_project
from tunewright.cli.freeze import freeze
from tunewright.config import load_spec, spec_sha256
from tunewright.core.artifacts import read_manifest
from tunewright.core.errors import UserError
from tunewright.data.splits.frozen import read_frozen
from tunewright.pipeline.fingerprint import fingerprint
from tunewright.pipeline.runner import execute_step
from tunewright.pipeline.steps import STEPS

pytestmark = pytest.mark.slow

APP = typer.Typer()
APP.command()(freeze)


def typed(*arguments: object) -> str:
    done = CliRunner().invoke(APP, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def add_rows(project: Path, count: int) -> None:
    rows = [{"text": unalike(f"new {label} {n}"), "label": label} for n in range(count) for label in LABELS]
    with (project / "train.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def content_of_split(project: Path) -> str:
    spec, check = make_spec(project), project / "c"
    execute_step(STEPS["check"], spec, {}, check)
    execute_step(STEPS["split"], spec, {"check": check}, project / "s")
    manifest = read_manifest(project / "s")
    assert manifest
    return manifest.content


def test_freezing_says_what_it_did_and_keeps_it(project: Path) -> None:
    said = typed(project)
    assert "version 1: added 18 to test" in said
    assert str(project / "frozen_test") in said
    assert "version 1: nothing to add" in typed(project)
    add_rows(project, 10)
    made = json.loads(typed(project, "--json"))
    assert (made["version"], made["added"], made["parts"]) == (2, {"test": 6}, {"test": 24})


def test_after_freezing_the_split_has_the_same_content_so_that_nothing_is_trained_again(project: Path) -> None:
    before = content_of_split(project)
    typed(project)
    assert content_of_split(project) == before
    manifest = read_manifest(project / "s")
    assert manifest
    assert "data.frozen" in manifest.inputs


def test_the_bytes_of_the_frozen_test_are_in_the_fingerprint_of_the_split_alone(project: Path) -> None:
    def pins() -> dict[str, str]:
        spec = make_spec(project)
        return {name: fingerprint(spec, step, {})["fingerprint"] for name, step in STEPS.items() if step.inputs}

    free = pins()
    typed(project)
    frozen = pins()
    assert [name for name in free if free[name] != frozen[name]] == ["split"]
    with (project / "frozen_test" / "1" / "kept.txt").open("a") as stream:
        stream.write("0")
    assert [name for name in free if pins()[name] != frozen[name]] == ["split"]


def test_where_the_frozen_test_lies_is_not_hashed(project: Path, tmp_path: Path) -> None:
    typed(project)
    before = make_spec(project)
    (project / "frozen_test").rename(tmp_path / "elsewhere")
    after = make_spec(project, data={"train": "train.jsonl", "frozen": "../elsewhere"})
    assert spec_sha256(before) == spec_sha256(after)
    split = STEPS["split"]
    assert fingerprint(before, split, {}) != fingerprint(after, split, {})  # it is not where `before` looks for it
    (tmp_path / "elsewhere").rename(project / "frozen_test")
    expected = fingerprint(before, split, {})
    (project / "frozen_test").rename(tmp_path / "elsewhere")
    assert fingerprint(after, split, {}) == expected


def test_a_saved_spec_finds_the_frozen_test_from_anywhere(project: Path, tmp_path: Path) -> None:
    assert load_spec(make_spec(project).save(tmp_path)).frozen_folder is None
    typed(project)
    assert load_spec(make_spec(project).save(tmp_path)).frozen_folder == project / "frozen_test"
    named = make_spec(project, data={"train": "train.jsonl", "frozen": "gone"})
    assert load_spec(named.save(tmp_path)).frozen_folder == project / "gone"


def in_ticket(project: Path, template: str | None, turns: int = 0) -> None:
    """Put the template around each text of the project's data that lacks it, as users' messages, and into its spec."""
    file = project / "train.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    for row in rows:
        if "messages" not in row:
            asked = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
            asked += [{"role": "user", "content": f"Ticket: {row.pop('text')}"}]
            row["messages"] = [*asked, {"role": "assistant", "content": row.pop("label")}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    spec = json.loads((project / "tunewright.yaml").read_text("utf-8"))
    spec["task"] |= {"input_template": template, "earlier_turns": turns}
    (project / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")


@pytest.mark.parametrize("is_old", [False, True], ids=["the version says the form", "a version of 0.1"])
def test_rows_that_were_for_training_stay_there_where_inputs_are_read_otherwise(project: Path, is_old: bool) -> None:
    in_ticket(project, None)
    typed(project)
    version = project / "frozen_test" / "1" / "version.json"
    if is_old:
        content = json.loads(version.read_text("utf-8"))
        assert content.pop("input_form") == {"earlier_turns": 0, "template": None}
        version.write_text(json.dumps(content), "utf-8")
    in_ticket(project, "Ticket: {text}", turns=2)
    assert "version 1: nothing to add" in typed(project)
    add_rows(project, 10)
    in_ticket(project, "Ticket: {text}", turns=2)
    assert "version 2: added 6 to test" in typed(project)
    lines = [int((each.meta.source or "").rpartition(":")[2]) for each in read_frozen(project / "frozen_test").examples]
    assert min(lines[18:]) > 90, "only rows that are new"


def test_a_test_whose_inputs_lack_what_the_spec_reads_is_refused(project: Path) -> None:
    in_ticket(project, "Ticket: {text}", turns=2)
    typed(project)
    for template, turns in ((None, 2), ("Ticket: {text}", 0)):
        in_ticket(project, template, turns)
        with pytest.raises(UserError, match=r'task.earlier_turns: 2 and task.input_template: "Ticket: \{text\}"'):
            typed(project)


def test_an_edited_frozen_test_is_refused(project: Path) -> None:
    typed(project)
    file = project / "frozen_test" / "1" / "test" / "test.jsonl"
    file.write_text(file.read_text("utf-8").replace("refund", "billing"), "utf-8")
    with pytest.raises(UserError, match=r"test\.jsonl: The frozen example train-\d+ .*was edited or removed"):
        typed(project)
