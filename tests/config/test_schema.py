from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.conftest import make_spec, spec_data
from tunewright.config import MoneySpec, Spec, load_spec, parse_spec, spec_schema, spec_sha256
from tunewright.core.errors import UserError
from tunewright.models.naming import absolute


def task(**changes: object) -> dict[str, object]:
    return {**spec_data()["task"], **changes}


def count_keys(model: type[BaseModel]) -> int:
    nested = [f.annotation for f in model.model_fields.values() if isinstance(f.annotation, type)]
    sections = [annotation for annotation in nested if issubclass(annotation, BaseModel)]
    return len(model.model_fields) + sum(map(count_keys, sections))


def test_the_schema_stays_small() -> None:
    assert 20 < count_keys(Spec) <= 123


def test_assess_takes_every_section_of_a_spec() -> None:
    assert Spec.model_fields.keys() <= MoneySpec.model_fields.keys()


def test_where_documents_lie_is_kept_on_this_machine_and_nowhere_else(tmp_path: Path) -> None:
    data = {**spec_data()["data"], "document": "file"}
    without, spec = make_spec(data=data), make_spec(data={**data, "documents_root": "scans"})
    assert without.documents_root is None
    saved = load_spec(spec.save(tmp_path))
    assert saved.documents_root == spec.documents_root == spec.folder / "scans"
    assert spec_sha256(saved) == spec_sha256(spec) == spec_sha256(without)
    named = dict.fromkeys(spec.sources, "given")
    assert load_spec(spec.save(tmp_path, sources=named)).documents_root is None


def test_every_key_but_the_sections_is_described_in_the_schema() -> None:
    definitions = {"Spec": spec_schema(), **spec_schema()["$defs"]}
    bare = [
        f"{name}.{key}"
        for name, section in definitions.items()
        for key, value in section["properties"].items()
        if "description" not in value and "$ref" not in value
    ]
    assert bare == []


def test_one_label_is_too_few() -> None:
    with pytest.raises(UserError, match="at least two labels, this spec has 1"):
        make_spec(task=task(labels=["billing"]))


def test_an_empty_label_is_refused() -> None:
    with pytest.raises(UserError, match="a label is empty"):
        make_spec(task=task(labels=["billing", " "]))


def test_an_instruction_need_not_list_the_labels() -> None:
    assert make_spec(task=task(instruction="Decide.")).task.instruction == "Decide."


@pytest.mark.parametrize("name", ["Tickets", "a b", "", "-x", "x" * 61, "a/b"])
def test_a_name_that_could_not_be_a_file_or_model_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="'name'"):
        make_spec(name=name)


@pytest.mark.parametrize("name", ["train", "validation", "served/one"])
def test_a_test_split_may_not_take_a_name_that_means_something_else(name: str) -> None:
    with pytest.raises(UserError, match="test"):
        make_spec(data={"train": "train.jsonl", "test": {name: "test.jsonl"}})


def test_an_infinite_value_is_refused() -> None:
    with pytest.raises(UserError, match="epochs"):
        make_spec(train={"epochs": float("inf")})


def test_a_saved_spec_means_the_same_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "elsewhere").mkdir()
    spec = make_spec(tmp_path / "project", data={"train": "d/train.jsonl", "test": {"t": "d/test.jsonl"}})
    saved = load_spec(spec.save(tmp_path / "elsewhere"))
    assert spec_sha256(saved) == spec_sha256(spec)
    assert saved.path(saved.data.train) == tmp_path / "project" / "d" / "train.jsonl"
    assert saved.path(saved.data.test["t"]) == tmp_path / "project" / "d" / "test.jsonl"


def test_a_local_model_is_saved_with_its_whole_path(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    spec = make_spec(tmp_path, model="my-model")
    saved = spec.save(tmp_path, absolute(spec.model, spec.folder))
    assert load_spec(saved).model == str(tmp_path / "my-model")


def test_a_catalogue_name_stays_one_where_a_folder_has_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "smollm2-135m").mkdir()
    assert absolute("smollm2-135m", tmp_path) == "smollm2-135m"


@pytest.mark.parametrize("text", ["Größe", "日本語", "refund 😀", 'say "no"', "tab\there", "two\nlines"])
def test_any_text_survives_saving(tmp_path: Path, text: str) -> None:
    spec = make_spec()
    spec.task.instruction = text + " {labels}"
    assert load_spec(spec.save(tmp_path)).task.instruction == text + " {labels}"


def test_the_hash_of_a_section_changes_with_that_section_only() -> None:
    first, second = make_spec(), make_spec(goal={"accuracy": 0.8})
    assert spec_sha256(first, "goal") != spec_sha256(second, "goal")
    assert spec_sha256(first, "task", "train") == spec_sha256(second, "task", "train")
    assert spec_sha256(first) != spec_sha256(second)


def test_the_hash_does_not_depend_on_where_data_and_model_lie() -> None:
    moved = make_spec(data={"train": "/elsewhere/train.jsonl"}, model="/models/mine")
    assert spec_sha256(moved) == spec_sha256(make_spec())


def test_the_schema_is_plain_json() -> None:
    assert json.loads(json.dumps(spec_schema()))["properties"]["train"]


def test_a_ladder_is_a_spec_for_each_base_model_and_begins_with_the_first(tmp_path: Path) -> None:
    data = spec_data(candidates=["smollm2-135m", "phi-3-mini"])
    del data["model"]
    spec = parse_spec(json.dumps(data), tmp_path / "tunewright.yaml")
    assert spec.model == "smollm2-135m"
    assert [(rung.model, rung.candidates, rung.folder) for rung in spec.each_candidate] == [
        ("smollm2-135m", (), tmp_path),
        ("phi-3-mini", (), tmp_path),
    ]
    assert [rung.model for rung in make_spec(model="phi-3-mini").each_candidate] == ["phi-3-mini"]
    saved = parse_spec(spec.save(tmp_path).read_text("utf-8"), tmp_path / "tunewright.yaml")
    assert (saved.model, saved.candidates) == ("smollm2-135m", ())


def test_a_ladder_and_a_single_model_exclude_each_other() -> None:
    with pytest.raises(UserError, match="model names one model, candidates several"):
        make_spec(model="phi-3-mini", candidates=["smollm2-135m"])


def test_an_override_takes_the_place_of_the_other_key(tmp_path: Path) -> None:
    text, file = json.dumps(spec_data()), tmp_path / "tunewright.yaml"
    assert parse_spec(text, file, ["candidates=[smollm2-135m, phi-3-mini]"]).candidates == (
        "smollm2-135m",
        "phi-3-mini",
    )
    data = spec_data(candidates=["smollm2-135m"])
    del data["model"]
    assert parse_spec(json.dumps(data), file, ["model=phi-3-mini"]).each_candidate[0].model == "phi-3-mini"
    with pytest.raises(UserError, match=r"candidates is a list, such as \[phi-3-mini\]"):
        parse_spec(text, file, ["candidates=phi-3-mini"])
    with pytest.raises(UserError, match="candidates names 'linear' twice"):
        parse_spec(text, file, ["candidates=[linear, all-minilm, linear]"])
    with pytest.raises(UserError, match="models is called candidates"):
        parse_spec(text, file, ["models=[phi-3-mini]"])
