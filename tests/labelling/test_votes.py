"""One answer out of several teachers' answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.conftest import LABELS, make_spec
from tunewright.labelling.audit import answers_needed, audit
from tunewright.labelling.choosing import Cover
from tunewright.labelling.dawid_skene import NONE, Indices, dawid_skene
from tunewright.labelling.people import PeoplesAnswer
from tunewright.labelling.requests import Unlabelled, draw_sample
from tunewright.labelling.settling import settle
from tunewright.labelling.trust import LEAST_TRUST, learn_trust
from tunewright.labelling.votes import Vote, elect
from tunewright.tasks import task_of

ROUTE = task_of(make_spec().task)
RECORD = {"type": "object", "properties": {"name": {"type": "string"}, "total": {"type": "number"}}}
FIELDS = task_of(make_spec(task={"kind": "extract", "instruction": "Read", "schema": RECORD}).task)
WRITE = task_of(make_spec(task={"kind": "generate", "instruction": "Write"}).task)


def votes(*given: tuple[str, str | None]) -> list[Vote]:
    return [Vote(*each) for each in given]


@pytest.mark.parametrize(
    ("given", "answer", "agreement"),
    [
        ([("a", "x"), ("b", "x"), ("c", "y")], "x", 2 / 3),
        ([("a", "x"), ("b", "y")], "x", 1 / 2),
        ([("a", "y"), ("a", "y"), ("a", "x"), ("b", "x")], "x", 1 / 6 + 1 / 2),  # each teacher counts once
        ([("a", "x"), ("b", None), ("c", None)], "x", 1 / 3),
    ],
)
def test_labels_are_elected_by_teachers(given: list[tuple[str, str | None]], answer: str, agreement: float) -> None:
    found = elect(ROUTE, "", votes(*given))
    assert found
    assert (found.answer, found.agreement) == (answer, pytest.approx(agreement))


def test_nobodys_answer_is_no_answer() -> None:
    assert elect(ROUTE, "", votes(("a", None))) is None
    assert elect(ROUTE, "", []) is None


def test_the_record_that_is_most_like_the_others_is_elected() -> None:
    records = [{"name": "Miller", "total": 5}, {"name": "Miller", "total": 6}, {"name": "Mill", "total": 6}]
    given = [FIELDS.canonical(json.dumps(each)) for each in records]
    found = elect(FIELDS, "Miller 6", votes(*zip("abc", given, strict=True)))
    assert found
    assert found.answer == given[1]
    assert 0.5 < found.agreement < 1


def test_fields_that_most_teachers_read_alike_are_joined() -> None:
    records = [{"name": "Mill", "total": 6, "date": "3 May"}, {"name": "Miller", "total": 9}, {"total": 6}]
    records[2] |= {"name": "Miller", "date": "4 May"}
    given = [FIELDS.canonical(json.dumps(each)) for each in records]
    found = elect(FIELDS, "Miller 6", votes(*zip("abc", given, strict=True)))
    assert found
    assert json.loads(found.answer) == {"name": "Miller", "total": 6}


def test_one_votes_tool_does_not_get_anothers_arguments() -> None:
    order = {"type": "object", "properties": {"order": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": name, "parameters": order}} for name in ("track", "cancel")]
    task = task_of(make_spec(task={"kind": "tools", "instruction": "Help.", "tools": tools}).task)
    calls = [("cancel", "1"), ("cancel", "2"), ("track", "3"), ("track", "3")]
    given = [task.canonical(json.dumps({"name": tool, "arguments": {"order": number}})) for tool, number in calls]
    votes_of_it = [Vote("a", given[0]), Vote("b", given[1]), Vote("c", given[2]), Vote("c", given[3])]
    votes_of_it += [Vote("d", task.canonical(json.dumps({"name": "cancel", "arguments": {"order": "3"}})))]
    found = elect(task, "", [*votes_of_it, Vote("e", given[2])])
    assert found
    assert found.answer == given[2], "joined, it would cancel the order that three want to track"


def test_a_label_that_the_tables_choose_has_the_agreement_of_those_who_said_it() -> None:
    random = np.random.default_rng(0)
    rows = [Unlabelled(str(number), f"text {number}") for number in range(200)]
    given = {}
    for number, row in enumerate(rows):
        right = LABELS[number % len(LABELS)]
        wrong = [right if random.random() < 0.5 else LABELS[0] for _ in range(2)]
        given[row.id] = votes(("good", right), ("poor", wrong[0]), ("other", wrong[1]))
    settled = settle(ROUTE, rows, given, {}, [])
    overruled = 0
    for row in rows:
        label = settled.labels[row.id]
        share = sum(vote.answer == label.answer for vote in given[row.id]) / 3
        assert label.agreement == pytest.approx(share)
        overruled += share < 0.5
    assert overruled


def test_labels_are_settled_though_all_that_can_be_learnt_is_in_one_fold() -> None:
    rows = [Unlabelled(str(number), f"text {number}") for number in range(10)]
    given = {row.id: votes(("only", LABELS[number % 2])) for number, row in enumerate(rows)}
    settled = settle(ROUTE, rows, given, {}, [row.id for row in rows if row.id not in ("0", "5")])
    assert settled.labels.keys() == given.keys()
    assert {each.weight for each in settled.labels.values()} == {1.0}


def test_the_text_that_is_most_like_the_others_is_elected() -> None:
    texts = ["Your card is on its way.", "Your card is on the way.", "No."]
    found = elect(WRITE, "", votes(*zip("abc", texts, strict=True)))
    assert found
    assert found.answer in texts[:2]


def played(rows: int, labels: int, accuracies: list[float], seed: int = 0) -> tuple[Indices, Indices]:
    """(the true labels, the votes of teachers who are wrong at random)."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, labels, rows)
    wrong = (truth[:, None] + random.integers(1, labels, (rows, len(accuracies)))) % labels
    return truth, np.where(random.random((rows, len(accuracies))) < accuracies, truth[:, None], wrong)


@pytest.mark.parametrize("labels", [2, 8, 77])
def test_good_teachers_outvote_poor_ones(labels: int) -> None:
    truth, said = played(2000, labels, [0.95, 0.6, 0.6])
    found = dawid_skene(said, labels)
    assert (found.posterior.argmax(1) == truth).mean() > 0.92
    if labels > 2:
        assert found.accuracy == pytest.approx([0.95, 0.6, 0.6], abs=0.04)


def test_what_people_say_counts_and_tells_a_systematic_fault() -> None:
    truth, said = played(1000, 4, [0.9, 0.9])
    said[truth == 1] = 2  # both teachers call 1 always 2
    known = np.where(np.arange(1000) < 200, truth, NONE)
    found = dawid_skene(said, 4, known)
    assert (found.posterior[:200].argmax(1) == truth[:200]).all()
    doubtful = found.posterior[200:][(said[200:] == 2).all(1)].max(1)
    sure = found.posterior[200:][(said[200:] == 3).all(1)].max(1)
    assert doubtful.mean() < 0.7 < 0.95 < sure.mean()


def test_a_row_without_votes_gets_the_share_of_each_label() -> None:
    truth, said = played(500, 3, [0.9, 0.9])
    said[0] = NONE
    found = dawid_skene(said, 3)
    shares = np.bincount(truth, minlength=3) / 500
    assert found.posterior[0] == pytest.approx(shares, abs=0.05)


def test_trust_is_learnt_where_people_say_enough() -> None:
    random = np.random.default_rng(0)
    agreements, opinions = random.uniform(0.3, 1, 200), random.normal(0, 1, 200)
    right = (opinions + 2 * agreements + random.normal(0, 0.5, 200) > 1).tolist()
    trust = learn_trust(agreements, opinions, right)
    weights = trust.of(agreements, opinions)
    assert weights[right].mean() > weights[~np.array(right)].mean() + 0.4
    assert weights.mean() == pytest.approx(np.mean(right), abs=0.03)
    few = learn_trust(agreements[:30], opinions[:30], right[:30])
    assert few.of(np.array([0.7, 0.0]), np.zeros(2)).tolist() == [0.7, LEAST_TRUST]
    none_wrong = learn_trust(agreements, opinions, [True] * 200)
    assert none_wrong.of(np.array([0.7]), np.zeros(1)).tolist() == [0.7]


@pytest.mark.parametrize("informative", ["neither", "agreement", "opinion"])
def test_weights_are_right_on_average_whatever_tells_nothing(informative: str) -> None:
    """By chance, what tells nothing seems to speak against a label in every second sample."""
    for seed in range(40):
        random = np.random.default_rng(seed)
        right = random.random(120) < 0.8
        agreements, opinions = random.choice([0.5, 0.75, 1.0], 120), random.normal(0, 1, 120)
        if informative == "agreement":
            agreements = np.where(right, 1.0, agreements)
        elif informative == "opinion":
            opinions = opinions + right
        trust = learn_trust(agreements, opinions, right.tolist())
        assert trust.coefficients is not None and (trust.coefficients >= 0).all()
        assert trust.of(agreements, opinions).mean() == pytest.approx(right.mean(), abs=0.01)


def test_cover_takes_what_is_unlike_before_what_is_alike() -> None:
    texts = ["my card was lost in the post"] * 20 + ["refund the hotel", "weather tomorrow", "play some jazz music"]
    chosen = Cover(texts, seed=0).choose(4, among=np.ones(23, bool))
    assert {20, 21, 22} < set(chosen)
    assert len(Cover(texts, seed=0).choose(30, among=np.arange(23) < 5)) == 5


def test_doubt_chooses_among_texts_that_are_equally_new() -> None:
    texts = [f"{letter * 9} {letter * 7}" for letter in "abcdefghijklmnopqrst"]
    doubts = np.where(np.arange(20) < 10, 1.0, 0.0)
    first = [Cover(texts, seed).choose(1, doubts, among=np.ones(20, bool))[0] for seed in range(60)]
    assert sum(each < 10 for each in first) > 45


def test_a_larger_sample_keeps_the_smaller_one() -> None:
    rows = [Unlabelled(str(number), "") for number in range(100)]
    first = draw_sample(rows, 10, 0)
    more = draw_sample(rows, 30, 1, first)
    assert more[:10] == first
    assert len(set(more)) == 30
    assert draw_sample(rows[:50], 10, 0, first)[: len(set(first) & {str(n) for n in range(50)})] == [
        each for each in first if int(each) < 50
    ]


def test_the_audit_counts_a_missing_answer_as_wrong_and_leaves_open_conflicts_out() -> None:
    sample = [Unlabelled(str(number), "") for number in range(40)]
    people = {row.id: PeoplesAnswer(LABELS[0], (LABELS[0],) * 2, is_settled=False) for row in sample[:38]}
    people["38"] = PeoplesAnswer(None, (LABELS[0], LABELS[1]), is_settled=False)
    own: dict[str, dict[str, str | None]] = {"api": {row.id: LABELS[0] for row in sample}}
    own["api"]["0"] = None
    own["together"] = own["api"]
    found = audit(ROUTE, sample, people, own)
    assert (found.answered, found.pairs) == (38, 39)
    assert found.teachers["api"].value == pytest.approx(37 / 38)
    assert found.people_agree
    assert found.people_agree.value == pytest.approx(38 / 39)
    assert found.ceiling
    assert found.people_agree.value < found.ceiling.value < 1


def test_the_audit_leaves_out_what_a_teacher_was_not_asked_about() -> None:
    sample = [Unlabelled(str(number), "") for number in range(40)]
    people = {row.id: PeoplesAnswer(LABELS[0], (LABELS[0],), is_settled=False) for row in sample}
    own: dict[str, dict[str, str | None]] = {"api": {row.id: LABELS[0] for row in sample[10:]}, "spent": {}}
    own["api"]["10"] = None
    own["together"] = own["api"]
    found = audit(ROUTE, sample, people, own)
    assert (found.answered, found.compared) == (40, {"api": 30, "together": 30})
    assert found.teachers["api"].value == pytest.approx(29 / 30)
    assert (found.labels[0].by_people, found.labels[0].by_teachers) == (30, 29)


def test_the_answers_needed_shrink_with_the_margin() -> None:
    assert answers_needed(0.9, 0.02) == 865
    assert answers_needed(0.9, 0.04) == 217
    assert answers_needed(1.0, 0.02) == 97  # a perfect sample proves no perfect teacher
