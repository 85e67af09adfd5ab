from __future__ import annotations

import json
import os
import resource
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from tests.conftest import spec_data, write_project
from tests.core.test_linear_time import ends_in_time
from tunewright.config import Spec, load_spec, parse_spec
from tunewright.config.aliases import ALIASES
from tunewright.config.recipes import recipe_names
from tunewright.core.errors import UserError
from tunewright.economics.prices import price_book
from tunewright.evaluation.api.judge import _human
from tunewright.pipeline.fingerprint import source_hashes
from tunewright.pipeline.steps import STEPS

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


def test_a_spec_knows_what_a_further_command_on_it_has_to_repeat(tmp_path: Path) -> None:
    write_project(tmp_path)
    recipe = recipe_names()[0]
    spec = load_spec(tmp_path, iter(["train.lr=1e-4", "goal={p95_ms: 9}"]), recipe, allow_code=True)
    assert spec.goal.p95_ms == 9
    words = ["train.lr=1e-4", "goal={p95_ms: 9}", "--recipe", recipe, "--allow-code"]
    assert shlex.split(spec.project_arguments()) == [str(tmp_path), *words]
    assert "--recipe" not in spec.project_arguments(with_recipe=False)
    candidate = spec.each_candidate[0]
    assert candidate.project_arguments() == spec.project_arguments()
    assert load_spec(tmp_path).project_arguments() == load_spec(tmp_path).project_argument == str(tmp_path)


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
    assert "'refund' is listed twice" in refusal(GOOD.replace("[billing, refund]", "[refund, billing, refund]"))


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


@pytest.mark.parametrize("override", ["monitor.keep_days=999999", "costs.horizon_months=100000"])
def test_a_time_longer_than_a_century_is_refused(override: str) -> None:
    """No date lies so far from today."""
    assert f"'{override.partition('=')[0]}'" in refusal(GOOD, override)


def test_an_override_reaches_a_nested_section() -> None:
    assert parse(GOOD, "train.lora.r=4").train.lora.r == 4


def test_an_override_fills_a_section_that_was_left_empty() -> None:
    assert parse(f"{GOOD}azure:\n", "azure.cpu=Standard_D2s_v5").azure.cpu == "Standard_D2s_v5"


def test_the_last_of_two_overrides_holds() -> None:
    assert parse(GOOD, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("override", ["train.lr", "=3", "  =3"])
def test_an_override_without_key_or_value_is_refused(override: str) -> None:
    assert "not of the form key=value" in refusal(GOOD, override)


def test_an_override_below_a_value_is_refused() -> None:
    assert "which is a value, not a section" in refusal(GOOD, "name.first=x")


def test_a_test_file_without_a_name_is_refused_with_one() -> None:
    assert "'data.test': each test file has a name, such as data.test.held_out=test.csv" in refusal(
        GOOD, "data.test=test.csv"
    )
    assert parse(GOOD, "data.test.held_out=test.csv").data.test == {"held_out": Path("test.csv")}


def test_an_override_with_an_unknown_key_is_refused_with_the_nearest_key() -> None:
    message = refusal(GOOD, "train.epoch=3")
    assert "override 'train.epoch=…': unknown key 'train.epoch', did you mean 'epochs'?" in message
    assert "line " not in message, "no line of the file is at fault"


@pytest.mark.parametrize(
    ("lines", "quoted"),
    [
        ("monitor: {database: 'postgresql://u:SECRET@h/db'}", "line 8: 'monitor.database': give the name"),
        ("monitor: {webhook: 'https://hooks.example/SECRET'}", "line 8: 'monitor.webhook': give the name"),
        ("monitor: postgresql://u:SECRET@h/db", "line 8: 'monitor' is a section of keys and values."),
        ("judge: https://u:SECRET@h/v1", "line 8: 'judge' is a section of keys and values."),
        ("apis: ['https://u:SECRET@h/v1']", "line 8: 'apis.0' is a section of keys and values."),
        ("apis: [{model: a, url: 'https://u:SECRET@h/v1'}]", "line 8: 'apis.0.url': an endpoint is"),
        ("api: {model: a, key:SECRET}", "line 8: unknown key 'api.key…', did you mean 'key'?"),
        ("api: {key: SECRET, key: other}", 'found duplicate key "key".'),
        ("seed: 1\nseed: SECRET", 'found duplicate key "seed".'),
    ],
)
def test_no_value_that_may_be_a_secret_is_shown(lines: str, quoted: str) -> None:
    message = refusal(f"{GOOD}{lines}\n")
    assert quoted in message
    assert "SECRET" not in message


@pytest.mark.parametrize(
    ("override", "quoted"),
    [
        ("monitor.webhook=https://hooks.example/SECRET", "override 'monitor.webhook=…': 'monitor.webhook': give"),
        ("monitor.webhok=https://hooks.example/SECRET", "override 'monitor.webhok=…': unknown key"),
        ("api={modell: gpt-4o, key: SECRET}", "override 'api=…': unknown key 'api.modell'"),
        ("api={url: 'https://u:SECRET@h/v1', shots: -1}", "override 'api=…': 'api.shots': input should be"),
        ("apis=[{url: 'https://u:SECRET@h/v1'}]", "override 'apis=…': 'apis.0.url': an endpoint is"),
        ("api=https://u:SECRET@h/v1", "override 'api=…': 'api' is a section"),
        ("api={key: SECRET", "override 'api=…'"),
        ("api.key.name=SECRET", "The override 'api.key.name=…' sets a key of 'key'"),
        ("api.key:SECRET", "The override 'api.key…' is not of the form"),
        ("judge+={key: SECRET}", "The override 'judge+=…' adds to 'judge'"),
    ],
)
def test_no_override_that_may_hold_a_secret_is_shown(override: str, quoted: str) -> None:
    message = refusal(f"{GOOD}api: {{key: A_NAME}}\n", override)
    assert quoted in message
    assert "SECRET" not in message


def test_other_values_and_overrides_are_shown() -> None:
    assert "line 9: 'train.lr': input should be greater than 0 (it is -1)" in refusal(f"{GOOD}train:\n  lr: -1\n")
    assert "override 'train.lr=-1': 'train.lr'" in refusal(GOOD, "train.lr=-1")


def test_a_value_in_the_place_of_a_section_is_refused() -> None:
    assert "'train' is a section of keys and values (it is 5)" in refusal(GOOD, "train=5")


@pytest.mark.parametrize("override", ["name=[", "model={a", "name='x", "data.text=a: b: c"])
def test_an_override_that_is_no_yaml_is_refused_as_a_user_error(override: str) -> None:
    assert f"override '{override.partition('=')[0]}=…'" in refusal(GOOD, override)


@pytest.mark.parametrize("name", ["no", "yes", "on", "off", "1", "null", "it's", "a: b"])
def test_a_quoted_label_is_read_as_text(name: str) -> None:
    data = spec_data()
    data["task"]["labels"] = {name: "", "other": ""}
    assert list(parse(json.dumps(data)).task.labels) == [name, "other"]


@pytest.mark.parametrize(("written", "read"), [("no", "no"), ("yes", "yes"), ("on", "on"), ("1", "1")])
def test_a_plain_label_keeps_the_text_it_was_written_with(written: str, read: str) -> None:
    spec = parse(GOOD.replace("[billing, refund]", f"{{{written}: '', other: ''}}"))
    assert list(spec.task.labels) == [read, "other"]


def laughs(levels: int) -> str:
    """A mapping whose anchors double at each of its levels."""
    lines = ["a0: &a0 [x, x]"] + [f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]" for n in range(levels)]
    return "\n".join(lines) + "\n"


HOSTILE = {
    "a deep sequence": ("name: " + "[" * 100_000, "nested more than 64 levels"),
    "a deep block": ("- " * 100_000, "nested more than 64 levels"),
    "levels that can just be read": ("name: " + "[" * 90 + "]" * 90, "tunewright.yaml:1: .*nested more than 64 levels"),
    "a long number": (GOOD + f"seed: {'9' * 5000}\n", "tunewright.yaml:8: This number has 5,000 characters"),
    "a long hexadecimal number": (GOOD + f"seed: 0x{'f' * 5000}\n", "This number has 5,002 characters"),
    "anchors that explode": (laughs(60), "more than 100,000 values"),
    "a text that explodes": (f"a: &a {'x' * 1000}\nb: [{'*a, ' * 1000}]\n", "more than 524,288 characters"),
    "merges that explode": (
        "a: &a {"
        + ", ".join(f"k{n}: 1" for n in range(2000))
        + "}\n"
        + "".join(f"b{n}: {{<<: *a}}\n" for n in range(99)),
        "more than 100,000 values",
    ),
    "an anchor that holds itself": ("name: &a [*a]\n", "tunewright.yaml:1: .*contains itself"),
    "a mapping that holds itself": ("name: &a\n  b: {c: *a}\n", "contains itself"),
    "a spec of megabytes": ("# " + "x" * (1 << 20), "more than 524,288"),
    "a tag of Python's": ("name: !!python/object/apply:os.system [ls]\n", "can't have the tag .*"),
    "bytes": ("name: !!binary abc=\n", "can't have the tag .*"),
    "half a letter": ('name: "\\ud800"\n', "U\\+D800, which is not a character"),
    "a NUL": ('name: "a\\0b"\n', "U\\+0000, which is not a character"),
    "a number that is none": ("name: !!int abc\n", "tunewright.yaml: .*can't be read: ValueError"),
    "two documents": ("a: 1\n---\nb: 2\n", "another document"),
    "a key that is a mapping": ("? {a: b}\n: c\n", "tunewright.yaml"),
    "many unknown keys": ("".join(f"k{n}: 1\n" for n in range(9000)), "unknown key 'k0'.*and 8,99\\d more"),
    "a long unknown key": ("? " + "k" * 100_000 + "\n: 1\n", "unknown key"),
    "a long wrong value": (GOOD + f"seed: {'x' * 100_000}\n", "'seed'"),
    "a path that is too long": (GOOD.replace("train.jsonl", "x" * 5000), "name too long"),
    "a home that nobody has": (GOOD.replace("train.jsonl", "~nobody-of-that-name/x"), "home directory"),
}


def own_data_bytes() -> int:
    """What this process has already: other tests may have loaded much."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_no_spec_takes_long_and_each_fault_is_one_paragraph(name: str, tmp_path: Path) -> None:
    text, reason = HOSTILE[name]
    (tmp_path / "tunewright.yaml").write_text(text, "utf-8")

    def read() -> None:
        most = own_data_bytes() + (1 << 30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        with pytest.raises(UserError, match=reason) as caught:
            assert load_spec(tmp_path).sources
        assert len(caught.value.paragraph()) < 3000

    assert ends_in_time(read)


@pytest.mark.parametrize(
    "override", [f"seed={'9' * 5000}", "model=" + "[" * 5000, ".".join("a" * 900) + "=1", "a=!!set {b}"]
)
def test_no_override_takes_long(override: str) -> None:
    assert len(refusal(GOOD, override)) < 2000


def test_a_date_is_a_text() -> None:
    spec = parse(GOOD.replace("tickets", "2026-11-29").replace("refund", "2026-13-45"))
    assert (spec.name, list(spec.task.labels)) == ("2026-11-29", ["billing", "2026-13-45"])


def test_anchors_and_merges_are_read() -> None:
    text = GOOD + "train: &usual\n  lr: 1e-4\n  gradient_checkpointing: &on true\ncosts: {engineering_usd: &n 7}\n"
    spec = parse(text + "goal: {accept_worse: *on, p95_ms: *n}\n")
    assert (spec.train.lr, spec.goal.accept_worse, spec.goal.p95_ms) == (1e-4, True, 7)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    files = {"pipe.yaml": "a pipe", "/dev/zero": "a device", "loop.yaml": "symbolic links", "x" * 5000: "name too long"}
    for file, what in files.items():
        with pytest.raises(UserError, match=what):
            load_spec(tmp_path / file)


@pytest.mark.parametrize(
    "key",
    [
        "data: {train: PIPE}",
        "data: {train: train.jsonl, test: {a: PIPE}}",
        "prices: PIPE",
        "judge: {model: a, human: PIPE}",
        "api: {recorded: PIPE}",
    ],
)
def test_no_step_reads_a_pipe(key: str, tmp_path: Path) -> None:
    write_project(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    data = spec_data() | YAML(typ="safe").load(key.replace("PIPE", "pipe"))
    (tmp_path / "tunewright.yaml").write_text(json.dumps(data), "utf-8")
    spec = load_spec(tmp_path)

    def read() -> None:
        for step in STEPS.values():
            with suppress(UserError):
                source_hashes(spec, step)
        if spec.price_file:
            with pytest.raises(UserError, match="a pipe"):
                price_book(spec.price_file)
        if spec.judge:
            with pytest.raises(UserError, match="a pipe"):
                _human(spec, spec.judge)

    assert ends_in_time(read)


@pytest.mark.parametrize("key", sorted(ALIASES))
def test_a_key_of_an_earlier_version_or_of_another_library_is_refused_with_ours(key: str, tmp_path: Path) -> None:
    write_project(tmp_path)
    text = (
        f"{key}=1"
        if not key.startswith(("apis.", "judge."))
        else {"apis": "apis=[{model: gpt-4o, KEY: 1}]", "judge": "judge={model: a, KEY: 1}"}[
            key.partition(".")[0]
        ].replace("KEY", key.partition(".")[2])
    )
    with pytest.raises(UserError) as refused:
        load_spec(tmp_path, [text])
    assert f": Tunewright calls it '{ALIASES[key]}'" in refused.value.paragraph()


def test_no_alias_is_a_key_and_each_leads_to_one() -> None:
    known = keys_of(Spec)
    assert known.isdisjoint(ALIASES)
    assert known.issuperset(ALIASES.values())


def keys_of(section: type[BaseModel], start: str = "") -> set[str]:
    """All keys of a section and of those in it; the kinds of a task share one place."""
    found = set()
    for name, field in section.model_fields.items():
        key = f"{start}{field.alias or name}"
        found.add(key)
        for inner in sections_in(field.annotation):
            found |= keys_of(inner, f"{key}.")
    return found


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [each for part in get_args(annotation) for each in sections_in(part)]
