"""The files that the spec names arrive where steps read them: the outputs are those of a local run."""

from __future__ import annotations

import json
import re
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.backends.azure.conftest import MakeJob, ended
from tests.conftest import LABELS, make_spec, unalike
from tunewright import api
from tunewright.api.pipeline import bring_up_to_date
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure.sources import BaseModelSource, needed, sources_of
from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest
from tunewright.core.errors import UserError
from tunewright.data.splits.freezing import freeze
from tunewright.models.catalogue import catalogue
from tunewright.pipeline.steps import STEPS


def rows(mark: str, count: int = 20) -> list[dict[str, str]]:
    return [
        {"text": f"{label} {unalike(f'{mark} {label} {n}')}", "label": label} for n in range(count) for label in LABELS
    ]


def write(file: Path, data: list[dict[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in data), "utf-8")


def test_a_folder_of_captures_without_a_file_is_no_source(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    (tmp_path / "captures" / "old").mkdir(parents=True)
    assert "monitor.captures" not in spec.sources
    (tmp_path / "captures" / "old" / "one.jsonl").touch()
    assert "monitor.captures" in spec.sources


def same_there_and_here(spec: Spec, step: str) -> Path:
    """Run up to a step there and here, and compare the outputs. Returns the step's output."""
    there = bring_up_to_date(spec, step, spec.folder / "there", None, False, "azure")
    here = bring_up_to_date(spec, step, spec.folder / "here", None, False)
    for name, outcome in here.steps.items():
        assert there.steps[name].folder.name == outcome.folder.name
        assert there.steps[name].manifest.content == outcome.manifest.content
    return there.folder(step)


def test_folders_patterns_frozen_tests_recorded_answers_and_prices(azure: AzureEmulator, job: MakeJob) -> None:
    spec = job(
        data={"train": "data", "test": {"old": "tests/*.jsonl"}, "frozen": "kept/frozen"},
        api={"model": "gpt-4o-mini", "recorded": "answers/api.jsonl"},
        prices="own/prices.yaml",
    )
    write(spec.folder / "data" / "a.jsonl", rows("a"))
    write(spec.folder / "data" / "deep" / "b.jsonl", rows("b", 10))
    write(spec.folder / "data" / ".hidden" / "c.jsonl", rows("c", 3))
    tested = rows("test", 6)
    write(spec.folder / "tests" / "t.jsonl", tested)
    (spec.folder / "tests" / "notes.txt").write_text("no data", "utf-8")
    write(spec.folder / "answers" / "api.jsonl", tested)
    (spec.folder / "own").mkdir()
    (spec.folder / "own" / "prices.yaml").write_text('as_of: "2026-11-27"\n', "utf-8")
    freeze_into(spec)
    answered = same_there_and_here(spec, "baseline")
    assert json.loads((answered / "baseline.json").read_text("utf-8"))["apis"]["gpt-4o-mini"]["source"] == "recorded"
    ended(azure)
    assert azure.proxy.refused == []


def freeze_into(spec: Spec) -> None:
    """Freeze the test of the spec's data in the folder that the spec names."""
    without = spec.model_copy(update={"data": spec.data.model_copy(update={"frozen": None})})
    freeze(without, bring_up_to_date(without, "split", spec.folder / "first", None, False).folder("split"))
    (spec.folder / "kept").mkdir()
    (spec.folder / "frozen_test").rename(spec.folder / "kept" / "frozen")


def test_documents_lie_beside_the_rows_that_name_them(azure: AzureEmulator, job: MakeJob) -> None:
    """In a folder and by a pattern; a document whose file type is also one of data is not read as data."""
    spec = job(data={"train": "data", "test": {"mails": "more/*.jsonl"}, "document": "mail"})
    for folder, count in (("data", 30), ("more", 6)):
        named = []
        for number, row in enumerate(rows(folder, count)):
            message = EmailMessage()
            message["Subject"] = row["text"]
            message.set_content(f"{row['text']}\n")
            file = spec.folder / folder / "mails" / f"{number}.eml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(message.as_bytes())
            named.append({"mail": f"mails/{number}.eml", "label": row["label"]})
        write(spec.folder / folder / "rows.jsonl", named)
    split = same_there_and_here(spec, "split")
    manifest = read_manifest(split)
    assert manifest and manifest.result["mails"] == 18
    ended(azure)


def test_a_document_outside_is_refused_before_anything_goes_up(azure: AzureEmulator, job: MakeJob) -> None:
    spec = job(data={"train": "data/rows.jsonl", "document": "mail"})
    (spec.folder / "outside.txt").write_text("hello there", "utf-8")
    write(spec.folder / "data" / "rows.jsonl", [{"mail": "../outside.txt", "label": "billing"}])
    before = len(azure.cloud.calls)
    with pytest.raises(UserError, match=r"lies outside the folder of the data.*leave --on azure out"):
        api.check(spec, on="azure")
    assert all(call.method != "PUT" for call in azure.cloud.calls[before:])


def test_a_link_out_of_the_data_goes_up_only_where_the_spec_says_so(job: MakeJob) -> None:
    spec = job(data={"train": "data/rows.jsonl", "document": "mail"})
    (spec.folder / "outside.txt").write_text("hello there", "utf-8")
    write(spec.folder / "data" / "rows.jsonl", [{"mail": "link.txt", "label": "billing"}])
    (spec.folder / "data" / "link.txt").symlink_to(spec.folder / "outside.txt")
    with pytest.raises(UserError, match=f"write into the spec: data.documents_root: {spec.folder}$"):
        sources_of(spec)
    open_spec = spec.model_copy(update={"data": spec.data.model_copy(update={"documents_root": Path()})})
    assert "link.txt" in sources_of(open_spec)["data.train"].files


def test_a_step_is_given_what_it_reads_and_nothing_else(job: MakeJob) -> None:
    spec = job(api={"model": "gpt-4o-mini", "recorded": "train.jsonl"}, prices="prices.yaml")
    (spec.folder / "prices.yaml").write_text("{}", "utf-8")
    sources = sources_of(spec)
    given = {name: needed(step, sources) for name, step in STEPS.items()}
    assert given["check"] == ["data.train", "model"]
    assert given["split"] == []
    assert given["baseline"] == ["prices", "recorded.gpt-4o-mini"]
    assert given["train"] == ["model"]
    assert given["verdict"] == ["prices"]
    assert given["bundle"] == []


def test_every_base_model_has_a_name_that_azure_takes() -> None:
    assets = [BaseModelSource("model", {}, name, "1").asset("p") for name in (*catalogue(), "Qwen/Qwen2.5-0.5B")]
    assert [name for name in assets if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}", name)] == []
