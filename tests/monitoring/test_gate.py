"""The gate, on made-up answers: a better model passes, a worse or an equal one hardly ever does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from tests.conftest import LABELS, make_spec, spec_data
from tests.monitoring.bundles import bundle_in
from tunewright.core.artifacts import atomic_folder, read_manifest, write_jsonl
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.evaluation.evidence import VALIDATION, Record, record_of
from tunewright.evaluation.steps import ANSWERS
from tunewright.evaluation.verdict.comparison import SERVED
from tunewright.inference.predictors import Answer
from tunewright.monitoring.retraining import contest as module
from tunewright.monitoring.retraining.gate import ALL, NEWEST, Decision, decide
from tunewright.tasks import ClassifyTask, Example, Meta, MultiLabelTask

Chances = Mapping[str, tuple[float, float]]
"""By label: how often the challenger is right alone, and how often the champion is."""
ONE, OTHER = (0.03, 0.03), (0.10, 0.02)


def records(
    rng: np.random.Generator, tests: Mapping[str, int], chances: Chances, group: int | None = None
) -> tuple[list[Record], list[Record], dict[str, Example]]:
    """Answers of challenger and champion to made-up tests, and the examples.

    Args:
        group: examples that are right or wrong together.
    """
    new, old, examples = [], [], {}
    for test, count in tests.items():
        for number in range(count):
            if group is None or number % group == 0:
                draw = rng.random()
            label = LABELS[number % len(LABELS)]
            alone, champion_alone = chances[label]
            new_right = draw < alone or draw > alone + champion_alone
            old_right = draw >= alone
            place = f"{'corrections/2/rows.jsonl' if test == 'new' else test}:{number}"
            of_group = None if group is None else f"{test} {number // group}"
            name = f"train-{place}-v2"  # as a frozen test names its examples
            meta = Meta(id=name, source=place, group=of_group)
            examples[name] = Example.of("1 " * (number % 40 + 1), label, meta)
            for found, right in ((new, new_right), (old, old_right)):
                answer = label if right else LABELS[(number + 1) % len(LABELS)]
                found.append(Record(name, test, label, answer, 0.9, 20.0, 10, 2, of_group))
    return new, old, examples


def held(new: Sequence[Record], old: Sequence[Record], examples: Mapping[str, Example], **more: object) -> Decision:
    wanted = {"margin": 0.02, "p95_ms": 100.0, "by_label": True, **more}
    return decide(new, old, examples, **wanted)


def everywhere(chances: tuple[float, float]) -> Chances:
    return dict.fromkeys(LABELS, chances)


def test_a_better_model_passes_and_the_sentence_says_where() -> None:
    found = held(*records(np.random.default_rng(0), {"old": 900, "new": 120}, everywhere(OTHER)))
    assert found.passed, found.sentence
    assert found.sentence.startswith("Passed: the challenger is better on all tests")
    assert [part.name for part in found.parts if part.kind == "test"] == [ALL, "old", "new"]  # "new" is the newest
    assert {part.kind for part in found.parts} == {"test", "label", "slice"}


def test_the_champion_answers_anew_where_more_tests_are_asked(tmp_path: Path) -> None:
    examples = [Example.of(f"request {n}", "billing", Meta(id=str(n))) for n in range(4)]
    bundle = made_in(tmp_path, Dataset([], [], {"test": examples}))
    asked: dict[Path, list[str]] = {}

    def collect(*given: Any) -> list[Record]:
        asked.setdefault(given[4], [each.meta.id for part in given[3].values() for each in part])
        return []

    task = SimpleNamespace(task=ClassifyTask("Route.", dict.fromkeys(LABELS, "")))
    with (
        mock.patch.object(module, "load_bundle", return_value=task),
        mock.patch.object(module, "collect_served", collect),
        mock.patch.object(module, "decide"),
    ):
        for most in (2, None, 2):
            module.contest(make_spec(tmp_path, evaluate={"max_examples": most}), tmp_path, bundle, bundle, [])
    assert sorted(map(len, asked.values())) == [2, 4]


@pytest.mark.parametrize(
    ("before", "now", "learnt", "asked"),
    [
        (None, "Ticket: {text}", "Ticket: my card", "my card"),
        ("Ticket: {text}", None, "my card", "Ticket: my card"),
    ],
)
def test_the_champion_has_learnt_a_request_however_the_two_models_read_it(
    tmp_path: Path, before: str | None, now: str | None, learnt: str, asked: str
) -> None:
    learnt_row, test, other = (Example.of(text, "billing", Meta(id=text)) for text in (learnt, asked, "Ticket: new"))
    bundle = made_in(tmp_path, Dataset([learnt_row], [], {"test": [test]}), before)
    task = SimpleNamespace(task=ClassifyTask("Route.", dict.fromkeys(LABELS, "")))
    spec = make_spec(tmp_path, task={**spec_data()["task"], "input_template": now})
    with (
        mock.patch.object(module, "load_bundle", return_value=task),
        mock.patch.object(module, "collect_served", return_value=[]),
        mock.patch.object(module, "decide") as decided,
    ):
        module.contest(spec, tmp_path, bundle, bundle, [])
    taught = decided.call_args.kwargs["taught"]
    assert taught(test)
    assert not taught(other)


def made_in(folder: Path, dataset: Dataset, input_template: str | None = None) -> Path:
    """A bundle with the outputs that the contest reads, in one folder."""
    about: dict[str, Any] = {"spec_sha256": "", "seed": 0, "code_version": "", "fingerprint": "1"}
    inputs: dict[str, str] = {}
    for step in ("split", "parity", "bundle"):
        with atomic_folder(folder / f"{step}-1", kind=step, inputs=dict(inputs), **about) as output:
            if step == "split":
                save_dataset(output.path, dataset)
            elif step == "bundle":
                file = bundle_in(output.path, made=None) / "bundle.json"
                info = json.loads(file.read_text("utf-8"))
                info["task"]["input_template"] = input_template
                file.write_text(json.dumps(info), "utf-8")
            else:
                (output.path / ANSWERS).mkdir()
                write_jsonl(output.path / ANSWERS / f"{SERVED}.jsonl", [])
        made = read_manifest(folder / f"{step}-1")
        assert made
        inputs[step] = made.content
    return folder / "bundle-1"


def test_what_is_gained_on_new_requests_does_not_pay_for_what_is_lost_on_the_old_test() -> None:
    rng = np.random.default_rng(1)
    new, old, examples = records(rng, {"old": 1200}, everywhere((0.02, 0.07)))
    more = records(rng, {"new": 900}, everywhere((0.30, 0.01)))
    found = held([*new, *more[0]], [*old, *more[1]], examples | more[2])
    assert not found.passed
    assert "worse on the test old" in found.sentence


def test_a_label_that_is_lost_is_not_paid_for_by_the_others() -> None:
    chances = {**everywhere((0.12, 0.01)), "refund": (0.01, 0.12)}
    found = held(*records(np.random.default_rng(2), {"old": 1500}, chances))
    assert not found.passed
    assert "worse on the label refund" in found.sentence


def test_a_large_part_that_lost_more_than_the_margin_is_a_reason_though_it_could_be_chance() -> None:
    chances = {**everywhere((0.06, 0.01)), "refund": (0.000, 0.025)}
    found = held(*records(np.random.default_rng(12), {"old": 3000}, chances))
    (lost,) = (part for part in found.parts if part.name == "refund")
    assert lost.large and lost.worse(0.02)
    assert not found.passed


def test_a_model_that_is_as_good_is_refused_because_nothing_is_gained() -> None:
    found = held(*records(np.random.default_rng(3), {"old": 2000}, everywhere((0.01, 0.01))))
    assert len(found.against) == 1
    assert "better nowhere" in found.sentence


def test_too_few_groups_show_nothing_however_much_better_the_challenger_is() -> None:
    new, old, examples = records(np.random.default_rng(0), {"old": 900}, everywhere((0.5, 0.0)), group=75)
    found = held(new, old, examples)
    assert not found.passed
    assert found.against[0].startswith("too few groups to tell (12, and it takes 20); collect answers from more groups")
    new, old, examples = records(np.random.default_rng(0), {"old": 900}, everywhere((0.5, 0.0)), group=20)
    assert held(new, old, examples).passed


def test_a_test_that_is_too_small_to_tell_is_said_to_be() -> None:
    found = held(*records(np.random.default_rng(4), {"old": 60}, everywhere(ONE)))
    assert not found.passed
    assert "examples to show that nothing was lost" in found.against[0]


def test_the_newest_corrections_are_a_test_of_their_own() -> None:
    new, old, examples = records(np.random.default_rng(5), {"old": 900, "new": 90}, everywhere(OTHER))
    new, old = ([Record(**{**vars(each), "split": "test"}) for each in part] for part in (new, old))
    tests = {part.name: part.count for part in held(new, old, examples).parts if part.kind == "test"}
    assert tests == {ALL: 990, "test": 990, NEWEST: 90}


def test_examples_that_the_champion_learnt_from_do_not_count() -> None:
    """It is right on all that it was taught, which says nothing about what is to come."""
    new, old, examples = records(np.random.default_rng(6), {"old": 1800}, everywhere(OTHER))
    taught = list(examples)[::2]
    old = [Record(**{**vars(each), "answer": each.gold}) if each.id in taught else each for each in old]
    new = [Record(**{**vars(each), "answer": "refund"}) if each.id in taught[:90] else each for each in new]
    assert not held(new, old, examples).passed
    fair = held(new, old, examples, taught=lambda example: example.meta.id in taught)
    assert fair.passed
    assert (fair.left_out, fair.parts[0].count) == (900, 900)
    nothing = held(new, old, examples, taught=lambda _: True)
    assert not nothing.passed
    assert "tunewright data freeze" in nothing.sentence


def test_a_slower_model_is_refused_unless_the_champion_is_as_slow() -> None:
    new, old, examples = records(np.random.default_rng(7), {"old": 900}, everywhere(OTHER))
    slow, slow_too = ([Record(**{**vars(each), "latency_ms": 150.0}) for each in part] for part in (new, old))
    assert "its P95 is 150 ms, over the 100 ms of goal.p95_ms" in held(slow, old, examples).sentence
    assert held(slow, slow_too, examples).passed


def test_a_failed_gate_of_its_own_parity_is_a_reason() -> None:
    new, old, examples = records(np.random.default_rng(8), {"old": 900}, everywhere(OTHER))
    assert held(new, old, examples, failures=["it disagrees with its adapter"]).against == [
        "it disagrees with its adapter"
    ]


@pytest.mark.slow
def test_the_validation_part_is_no_test() -> None:
    new, old, examples = records(np.random.default_rng(9), {"old": 600, VALIDATION: 600}, everywhere(OTHER))
    assert held(new, old, examples).parts[0].count == 600


def share_passed(chances: Chances, runs: int, group: int | None = None) -> float:
    rng = np.random.default_rng(10)
    tests = {"old": 600, "new": 90}
    return float(np.mean([held(*records(rng, tests, chances, group)).passed for _ in range(runs)]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chances", "group"),
    [
        (everywhere((0.05, 0.05)), None),  # no better
        (everywhere((0.03, 0.05)), None),  # worse by the margin
        (everywhere((0.05, 0.05)), 6),  # no better, and six examples are right or wrong together
    ],
)
def test_a_model_that_should_not_pass_does_so_in_less_than_one_of_twenty_trainings(
    chances: Chances, group: int | None
) -> None:
    assert share_passed(chances, 30, group) <= 0.05


@pytest.mark.slow
def test_a_model_that_is_better_by_six_points_nearly_always_passes() -> None:
    assert share_passed(everywhere((0.09, 0.03)), 20) >= 0.8


def test_of_several_labels_a_row_one_that_is_lost_is_not_paid_for_by_the_others() -> None:
    task, rng = MultiLabelTask("Which hold?", dict.fromkeys(LABELS, "")), np.random.default_rng(4)
    new, old, examples = [], [], {}
    for number in range(1500):
        gold = [label for label in LABELS if rng.random() < 0.4]
        example = Example.of(
            "1 " * (number % 40 + 1), task.written_out(gold), Meta(id=str(number), source=f"t:{number}")
        )
        examples[str(number)] = example
        for found, missed in ((new, {"refund": 0.15}), (old, {"billing": 0.3, "defect": 0.3})):
            given = [label for label in gold if rng.random() >= missed.get(label, 0.0)]
            found.append(record_of("test", example, Answer(task.written_out(given), 0.9), 20.0, task))
    found = held(new, old, examples, by_label=False)
    assert not found.passed
    assert "worse on the label refund" in found.sentence
    assert {part.name for part in found.parts if part.kind == "label"} == set(LABELS)
