"""Corrections are read after the training data, in a fixed form that does not depend on the form of the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LABELS, TOKENIZER, unalike, write_project
from tunewright.backends.azure.sources import needed, sources_of
from tunewright.config import Spec, load_spec
from tunewright.core.artifacts import Output
from tunewright.core.errors import UserError
from tunewright.data.corrections import Correction, Corrections, ReviewerAnswer, corrections_in, write_corrections
from tunewright.data.dataset import load_dataset, load_examples
from tunewright.data.examine import load_examination
from tunewright.data.fix import fix
from tunewright.data.job import job_of
from tunewright.data.splits.freezing import freeze
from tunewright.data.splits.withholding import FOR_THE_GATE, load_withheld
from tunewright.data.steps import raw_files, run_check, run_split
from tunewright.data.times import instants_of
from tunewright.pipeline.fingerprint import fingerprint
from tunewright.pipeline.steps import STEPS


def correction(number: int, text: str | None = None, answer: str = "billing", time: str = "") -> Correction:
    time = time or f"2026-11-{number % 28 + 1:02}T09:00:00+00:00"
    who = [ReviewerAnswer("anna", time, "review")]
    return Correction(
        text or unalike(f"correction {number}"), answer, f"c{number}", time, "tickets", "v1", None, "x", who
    )


def grown(spec: Spec, *rows: Correction) -> Corrections:
    folder = spec.corrections_folder
    return write_corrections(folder, corrections_in(folder), rows, [], {}, "2026-11-27T09:00:00+00:00")


def project(folder: Path, **data: Any) -> Spec:
    return load_spec(write_project(folder / "project", data={"train": "train.jsonl", **data}))


def write_rows(spec: Spec, rows: list[dict[str, Any]]) -> None:
    (spec.folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def checked(spec: Spec, folder: Path) -> Path:
    folder.mkdir()
    run_check(spec, {}, Output(folder))
    return folder


def split(spec: Spec, folder: Path) -> Path:
    check = checked(spec, folder)
    (folder / "split").mkdir()
    run_split(spec, {"check": check}, Output(folder / "split"))
    return folder / "split"


def test_corrections_follow_the_data_with_ids_of_their_own_and_change_no_other_row(tmp_path: Path) -> None:
    spec = project(tmp_path)
    before = load_examples(checked(spec, tmp_path / "before") / "examples" / "train.jsonl")
    grown(spec, correction(1), correction(2))
    grown(spec, correction(3, answer="refund"))
    after = load_examples(checked(spec, tmp_path / "after") / "examples" / "train.jsonl")
    assert after[: len(before)] == before
    added = [(each.meta.id, each.meta.source, each.answer) for each in after[len(before) :]]
    assert added == [
        ("train-corrections/1/rows.jsonl:1", "corrections/1/rows.jsonl:1", "billing"),
        ("train-corrections/1/rows.jsonl:2", "corrections/1/rows.jsonl:2", "billing"),
        ("train-corrections/2/rows.jsonl:1", "corrections/2/rows.jsonl:1", "refund"),
    ]


def test_the_fingerprint_depends_on_the_corrections_bytes_and_not_on_their_folder(tmp_path: Path) -> None:
    spec = project(tmp_path)
    marks = [fingerprint(spec, STEPS["check"], {})["fingerprint"]]
    grown(spec, correction(1))
    marks.append(fingerprint(spec, STEPS["check"], {})["fingerprint"])
    grown(spec, correction(2))
    marks.append(fingerprint(spec, STEPS["check"], {})["fingerprint"])
    assert len(set(marks)) == 3
    spec.corrections_folder.rename(spec.folder / "elsewhere")
    assert fingerprint(spec, STEPS["check"], {})["fingerprint"] == marks[0]
    moved = project(tmp_path, corrections="elsewhere")
    assert fingerprint(moved, STEPS["check"], {})["fingerprint"] == marks[2]
    saved = load_spec(moved.save(tmp_path))
    assert fingerprint(saved, STEPS["check"], {})["fingerprint"] == marks[2]


def test_a_finding_in_a_correction_names_its_file_and_line(tmp_path: Path) -> None:
    spec = project(tmp_path)
    grown(spec, correction(1), correction(2, text=" "))
    check = checked(spec, tmp_path / "check")
    finding = next(each for each in load_examination(check).findings if each.code == "D001")
    assert finding.examples[0].where == "corrections/1/rows.jsonl:2"
    with pytest.raises(UserError, match=r"project/corrections/1/rows.jsonl:2: The data can't be used"):
        (tmp_path / "split").mkdir()
        run_split(spec, {"check": check}, Output(tmp_path / "split"))


def test_the_datas_columns_form_group_and_document_do_not_apply_to_corrections(tmp_path: Path) -> None:
    spec = project(tmp_path, form="labelled", text="ignored", label="queue", group="capture", document="time")
    for number in range(30):
        (spec.folder / f"{number}.txt").write_text(unalike(f"document {number}"))
    write_rows(spec, [{"time": f"{n}.txt", "queue": LABELS[n % 3], "capture": f"g{n}"} for n in range(30)])
    grown(spec, correction(1, "what a customer wrote"))
    assert len(fingerprint(spec, STEPS["check"], {})["fingerprint"]) == 64
    last = load_examples(checked(spec, tmp_path / "check") / "examples" / "train.jsonl")[-1]
    assert (last.request, last.answer, last.meta.group) == ("what a customer wrote", "billing", None)


@pytest.mark.parametrize("time", ["2026-11-{:02}", "2026-11-{:02}T09:30:00", "17640000{:02}"])
def test_a_corrections_time_is_that_of_its_request_in_any_time_format_of_the_data(tmp_path: Path, time: str) -> None:
    spec = project(tmp_path, time="written")
    write_rows(
        spec, [{"text": unalike(str(n)), "label": LABELS[n % 3], "written": time.format(n % 28 + 1)} for n in range(40)]
    )
    grown(spec, *[correction(n, time=f"2026-12-{n % 28 + 1:02}T10:00:00+00:00") for n in range(12)])
    dataset = load_dataset(split(spec, tmp_path / "work"))
    examples = [*dataset.train, *dataset.validation, *dataset.test_examples]
    assert instants_of(examples)["2026-12-01T10:00:00+00:00"] == 1796119200
    assert {each.meta.source.split("/")[0] for each in dataset.test_examples} == {"corrections"}


def test_a_folder_of_data_that_holds_the_corrections_reads_them_once(tmp_path: Path) -> None:
    spec = project(tmp_path)
    grown(spec, correction(1))
    folder = load_spec(spec.folder, ["data.train=.", "data.corrections=corrections"])
    pattern = load_spec(spec.folder, ["data.train='**/*.jsonl'"])
    for each in (folder, pattern):
        assert [file.name for file in raw_files(each)["train"]] == ["train.jsonl", "corrections/1/rows.jsonl"]


def test_a_fix_leaves_corrections_unchanged_and_out_of_its_files(tmp_path: Path) -> None:
    spec = project(tmp_path)
    grown(spec, correction(1, "hello <|im_end|>"))
    fixed = fix(job_of(spec), ["D016"], tmp_path / "fixed")
    assert len(fixed.files["train"].read_text().splitlines()) == 90
    assert not fixed.changes


def test_corrections_edited_by_hand_are_refused_by_every_reader(tmp_path: Path) -> None:
    spec = project(tmp_path)
    grown(spec, correction(1))
    grown(spec, correction(2))
    with (spec.corrections_folder / "1" / "rows.jsonl").open("a") as stream:
        stream.write("{}\n")
    for read in (
        lambda: raw_files(spec),
        lambda: job_of(spec).files(),
        lambda: corrections_in(spec.corrections_folder),
    ):
        with pytest.raises(UserError, match=r"corrections/1/rows.jsonl: This file of the corrections was edited"):
            read()


@pytest.mark.slow
def test_freezing_again_adds_a_share_of_the_corrections_and_old_test_rows_are_never_trained_on(tmp_path: Path) -> None:
    spec = project(tmp_path)
    freeze(spec, split(spec, tmp_path / "one"))
    tested = load_dataset(tmp_path / "one" / "split").test_examples
    grown(spec, correction(0, f"{tested[0].request}!", tested[0].answer), *map(correction, range(1, 61)))
    split(spec, tmp_path / "two")
    withheld = load_withheld(tmp_path / "two" / "split")
    assert [(row.example.meta.source, row.reason) for row in withheld] == [
        ("corrections/1/rows.jsonl:1", "near-copy-of-frozen")
    ]
    freezing = freeze(spec, tmp_path / "two" / "split")
    assert freezing.added == {"test": 12}
    after = load_dataset(split(spec, tmp_path / "three"))
    new = [each for each in after.test_examples if each.meta.source.startswith("corrections/")]
    assert len(new) == 12
    assert {each.request for each in tested} <= {each.request for each in after.test_examples}
    taught = {each.request for each in [*after.train, *after.validation]}
    assert taught.isdisjoint({each.request for each in after.test_examples})


def test_corrections_are_uploaded_with_the_data_and_found_there(tmp_path: Path) -> None:
    spec = project(tmp_path)
    grown(spec, correction(1))
    sources = sources_of(spec)
    assert "data.corrections" in needed(STEPS["check"], sources)
    assert "data.corrections" not in needed(STEPS["train"], sources)
    node = tmp_path / "node"
    for each in sources.values():
        each.laid_out(node / "given" / each.key)
    places = {key: str(node / each.place) for key, each in sources.items()}
    there = load_spec(spec.save(tmp_path, model=str(TOKENIZER), sources=places))
    assert fingerprint(there, STEPS["check"], {}) == fingerprint(spec, STEPS["check"], {})


@pytest.mark.slow
def test_with_named_tests_a_share_of_each_version_is_kept_for_the_gate(tmp_path: Path) -> None:
    """Every split keeps the same rows, or the next champion would be trained on the rows of its own comparison."""
    spec = project(tmp_path, test={"seen": "test.jsonl"}, test_fraction=0.3)
    (spec.folder / "test.jsonl").write_text(json.dumps({"text": unalike("test"), "label": "refund"}) + "\n", "utf-8")
    held: list[set[str]] = []
    for version in range(2):
        grown(spec, *(correction(30 * version + n, answer=LABELS[n % len(LABELS)]) for n in range(30)))
        folder = split(spec, tmp_path / str(version))
        rows = load_withheld(folder)
        assert {(row.reason, row.part) for row in rows} == {(FOR_THE_GATE, "train")}
        held.append({str(row.example.meta.source) for row in rows})
        dataset = load_dataset(folder)
        learnt = {str(each.meta.source) for each in (*dataset.train, *dataset.validation)}
        assert not learnt & held[-1]
        assert len(learnt | held[-1]) == len(load_examples(tmp_path / str(version) / "examples" / "train.jsonl"))
    assert all(place.startswith("corrections/1/") for place in held[0])
    assert {place for place in held[1] if place.startswith("corrections/1/")} == held[0]
    assert (len(held[0]), len(held[1])) == (9, 18)
