"""Fixed text around the inputs of a file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LABELS, REPOSITORY, findings_in, make_spec, unalike
from tunewright.core.artifacts import read_jsonl
from tunewright.data.boilerplate import SAMPLE, find_template, sample_of
from tunewright.data.checks import Finding
from tunewright.data.examine import examine
from tunewright.data.job import job_of
from tunewright.tasks import Example, Meta

TICKETS = [row["text"] for row in read_jsonl(REPOSITORY / "examples" / "tickets" / "data" / "train.jsonl")][::4]
LONG = "You help our desk.\n\nRead the ticket:\n---\n{text}\n---\nAnswer with the team alone."
RULES = " ".join(f"A ticket about {unalike(str(n))} belongs to the team that knows it best." for n in range(4)) + LONG
MARKS = ["<", "(", "“", "-", "¿"]


def around(template: str, texts: list[str] = TICKETS) -> list[str]:
    return [template.replace("{text}", text) for text in texts]


@pytest.mark.parametrize(
    "template",
    [
        LONG,
        "Classify the following message: {text}",
        'Classify the following message: "{text}"',
        "{text}\n\nWhich team is it for, please?",
        "<ticket>{text}</ticket> Which team is it for, please?",
        "Nenne das zuständige Team für diese Anfrage:\n\n{text}",
    ],
)
def test_what_all_have_around_them_is_found_to_the_letter(template: str) -> None:
    assert str(find_template(around(template))) == template


def test_of_one_in_twenty_without_it_nothing_changes() -> None:
    mixed = [text if number % 20 else TICKETS[number] for number, text in enumerate(around(LONG))]
    assert str(find_template(mixed)) == LONG
    half = [text if number % 2 else TICKETS[number] for number, text in enumerate(around(LONG))]
    assert find_template(half) is None


def test_inputs_that_begin_or_end_alike_keep_that() -> None:
    polite = [f"{'Hello, ' if number % 30 else ''}{text.rstrip('.!?')}." for number, text in enumerate(TICKETS)]
    assert str(find_template(around("Say which team it is for: {text}\n\nBe brief, please.", polite))) == (
        "Say which team it is for: {text}\n\nBe brief, please."
    )


@pytest.mark.parametrize(
    "texts",
    [TICKETS, ["always the same sentence, in every row"] * 100, ["I have " + text for text in TICKETS], [], [""] * 30],
    ids=["tickets", "one text", "two words", "none", "empty"],
)
def test_where_nothing_is_fixed_nothing_is_found(texts: list[str]) -> None:
    assert find_template(texts) is None


def test_any_texts_give_a_template_that_most_of_them_have() -> None:
    draw = random.Random(0)
    for _ in range(200):
        words = [unalike(str(draw.random())) for _ in range(6)]
        template = f"{words[0]}{draw.choice(MARKS)} {words[1]}: {{text}} {words[2]}{draw.choice(MARKS)}"
        texts = [unalike(f"{draw.random()}") + draw.choice(["", ".", "\n", " !"]) for _ in range(40)]
        found = find_template(around(template, texts))
        assert found is not None
        assert sum(found.input_of(each) != each for each in around(template, texts)) >= 36


def test_a_sample_is_drawn_from_all_rows() -> None:
    kept = sample_of(str(number) for number in range(10_000))
    assert len(kept) == len(set(kept)) == SAMPLE
    assert max(map(int, kept)) > 9_000
    assert sample_of(["a", "b"]) == ["a", "b"]
    (long,) = sample_of([f"{'a' * 1_000_000}{'b' * 1_000_000}"])
    assert (len(long), long[0], long[-1]) == (40_000, "a", "b")


def fixed_texts(folder: Path, texts: list[str]) -> list[Finding]:
    rows = [Example.of(text, LABELS[n % 3], Meta(id=str(n), source=f"train.jsonl:{n}")) for n, text in enumerate(texts)]
    return [finding for finding in findings_in(folder, {"train": rows}) if finding.code == "D033"]


def test_the_finding_counts_all_rows_and_names_the_text(tmp_path: Path) -> None:
    mixed = [text if number % 16 else TICKETS[number] for number, text in enumerate(around(LONG))]
    (finding,) = fixed_texts(tmp_path, mixed)
    fixed = len(LONG) - len("{text}")
    share = 240 * fixed / sum(map(len, mixed))
    assert (finding.severity, finding.count) == ("note", 240)
    assert f"240 rows have the same text around the input, {100 * share:.0f} % of all letters" in finding.what
    assert "begins with 'You help our desk. Read the ticket: ---'" in finding.what
    assert finding.what.endswith("ends with '…--- Answer with the team alone.'")
    assert fixed_texts(tmp_path, around(LONG)[:19]) == []


def test_with_the_template_in_the_spec_the_checks_see_the_inputs(tmp_path: Path) -> None:
    inputs = [unalike(str(number)) for number in range(60)]
    rows = [{"text": text, "label": LABELS[n % 3]} for n, text in enumerate(around(RULES, inputs))]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    def found(name: str, **changes: Any) -> set[str]:
        task = {"kind": "classify", "instruction": "Route it.", "labels": LABELS, **changes}
        (tmp_path / name).mkdir()
        return {each.code for each in examine(job_of(make_spec(tmp_path, task=task)), tmp_path / name).findings}

    assert found("long") >= {"D011", "D033"}  # rows that differ in four words of eighty nearly repeat each other
    assert found("short", input_template=RULES).isdisjoint({"D011", "D033"})
    kept = [row["messages"][0]["content"] for row in read_jsonl(tmp_path / "short" / "examples" / "train.jsonl")]
    assert kept == inputs
