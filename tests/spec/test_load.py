from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import spec_data, write_project
from tunewright.errors import UserError
from tunewright.spec import Spec, load_spec, parse_spec

GOOD = """\
name: tickets
task:
  kind: classify
  instruction: "Choose: {labels}"
  labels: [billing, refund]
data:
  train: train.jsonl
"""


def parse(text: str, *overrides: str) -> Spec:
    return parse_spec(text, Path("/project/tunewright.yaml"), overrides)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, *overrides)
    return caught.value.paragraph()


def test_a_folder_stands_for_the_spec_in_it(tmp_path: Path) -> None:
    write_project(tmp_path)
    assert load_spec(tmp_path) == load_spec(tmp_path / "tunewright.yaml")


def test_relative_paths_start_at_the_spec(tmp_path: Path) -> None:
    write_project(tmp_path)
    spec = load_spec(tmp_path)
    assert spec.path(spec.data.train) == (tmp_path / "train.jsonl").resolve()


def test_an_absent_spec_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tunewright init"):
        load_spec(tmp_path)


def test_a_spec_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tunewright.yaml").write_bytes(GOOD.replace("tickets", "tïckets").encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        load_spec(tmp_path)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "tunewright.yaml").write_bytes(GOOD.encode("utf-8-sig"))
    assert load_spec(tmp_path).name == "tickets"


def test_a_label_that_stands_twice_is_refused() -> None:
    assert "'refund' stands here twice" in refusal(GOOD.replace("[billing, refund]", "[refund, billing, refund]"))


def test_broken_yaml_is_refused_with_its_line() -> None:
    assert "tunewright.yaml:3" in refusal("name: tickets\ntask:\n  a: b: c\n")


def test_a_repeated_key_is_refused() -> None:
    assert "duplicate key" in refusal(GOOD + "name: other\n")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_a_spec_that_is_no_mapping_is_refused(text: str) -> None:
    assert "must be a mapping" in refusal(text)


def test_a_control_character_is_refused_as_a_user_error() -> None:
    assert "tunewright.yaml" in refusal("name: tick\x07ets\n")


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_key() -> None:
    message = refusal(GOOD + "train:\n  epoch: 3\n")
    assert "line 9: unknown key 'train.epoch', did you mean 'epochs'?" in message


def test_an_unknown_key_that_resembles_none_lists_the_known_ones() -> None:
    message = refusal(GOOD + "goal:\n  zzz: 3\n")
    assert "known here: accuracy, margin, accept_worse, p95_ms" in message


def test_all_faults_are_listed_at_once() -> None:
    message = refusal(GOOD.replace("name: tickets\n", "") + "train:\n  lr: -1\ngoal:\n  accuracy: 90\n")
    assert "'name' is missing" in message
    assert "'train.lr'" in message
    assert "'goal.accuracy'" in message
    assert "(it is 90)" in message


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("train.lr=1e-4", "train", "lr", 1e-4),
        ("train.max_steps=7", "train", "max_steps", 7),
        ("train.method=qlora", "train", "method", "qlora"),
        ("data.group=customer", "data", "group", "customer"),
        ("data.group=null", "data", "group", None),
    ],
)
def test_an_override_replaces_a_value(override: str, section: str, key: str, value: object) -> None:
    assert getattr(getattr(parse(GOOD, override), section), key) == value


def test_an_override_reaches_a_nested_section() -> None:
    assert parse(GOOD, "train.lora.r=4").train.lora.r == 4


def test_the_last_of_two_overrides_holds() -> None:
    assert parse(GOOD, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("override", ["train.lr", "=3", "  =3"])
def test_an_override_without_key_or_value_is_refused(override: str) -> None:
    assert "not of the form key=value" in refusal(GOOD, override)


def test_an_override_below_a_value_is_refused() -> None:
    assert "which is a value, not a section" in refusal(GOOD, "name.first=x")


def test_an_override_with_an_unknown_key_is_refused_with_the_nearest_key() -> None:
    message = refusal(GOOD, "train.epoch=3")
    assert "override 'train.epoch=3': unknown key 'train.epoch', did you mean 'epochs'?" in message
    assert "line " not in message, "no line of the file is at fault"


def test_a_value_in_the_place_of_a_section_is_refused() -> None:
    assert "'train' is a section of keys and values (it is 5)" in refusal(GOOD, "train=5")


@pytest.mark.parametrize("override", ["name=[", "model={a", "name='x", "data.text=a: b: c"])
def test_an_override_that_is_no_yaml_is_refused_as_a_user_error(override: str) -> None:
    assert override in refusal(GOOD, override)


@pytest.mark.parametrize("name", ["no", "yes", "on", "off", "1", "null", "it's", "a: b"])
def test_a_quoted_label_is_read_as_text(name: str) -> None:
    data = spec_data()
    data["task"]["labels"] = {name: "", "other": ""}
    assert list(parse(json.dumps(data)).task.labels) == [name, "other"]


@pytest.mark.parametrize(("written", "read"), [("no", "no"), ("yes", "yes"), ("on", "on"), ("1", "1")])
def test_a_plain_label_keeps_the_text_it_was_written_with(written: str, read: str) -> None:
    spec = parse(GOOD.replace("[billing, refund]", f"{{{written}: '', other: ''}}"))
    assert list(spec.task.labels) == [read, "other"]
