"""Requests that the sample has, or nearly has, are not taught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import findings_in, make_spec
from tests.evaluation.large_model import large_model
from tests.labelling.played import KEY, answer, rows_of, teacher, text
from tunewright.data.readers import Columns, read
from tunewright.data.splits.withholding import GROUP, NEAR_COPY, REPEAT
from tunewright.data.text import normal
from tunewright.labelling.requests import Unlabelled
from tunewright.labelling.run import label
from tunewright.labelling.summary import summary
from tunewright.labelling.withheld import related
from tunewright.tasks import Example


def row(key: str, asked: str, group: str | int | None = None) -> Unlabelled:
    return Unlabelled(key, asked, {} if group is None else {"customer": group})


def test_repeats_near_copies_and_groups_of_the_sample_are_related_to_it() -> None:
    order = "Where is my order? I have been waiting for it for two weeks now."
    rows = [
        row("sample", order, 7),
        row("capitals", order.upper()),
        row("near", order.replace("weeks", "week")),
        row("group", "I want my money back.", 7),
        row("other", "The parcel arrived broken.", "8"),
        row("none", "What does this cost?", ""),
    ]
    data = make_spec(data={"train": "train.jsonl", "group": "customer"}).data
    assert related(data, rows, ["sample"]) == {"capitals": REPEAT, "near": NEAR_COPY, "group": GROUP}
    assert set(related(make_spec().data, rows, ["sample"])) == {"capitals", "near"}
    assert related(data, rows, []) == {}


@pytest.mark.slow
def test_no_training_row_is_one_of_the_test_or_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-of-the-teacher")
    rows = [{"text": text(n), "customer": f"of {n // 2}"} for n in range(60)]
    rows += [{"text": text(n).replace("Ticket", "TICKET"), "customer": f"capitals {n}"} for n in range(0, 60, 3)]
    rows += [{"text": f"{text(n)}s", "customer": f"near {n}"} for n in range(1, 60, 3)]
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with large_model(teacher(1.0)) as played:
        spec = make_spec(
            tmp_path,
            apis=[{"name": "api", "model": "gpt-6-luna", "url": played.url, "key": KEY}],
            label={"requests": "requests.jsonl", "people": 20},
            data={"train": "labels/train.jsonl", "group": "customer"},
        )
        report = label(spec)
        answer(spec)
        assert label(spec).withheld == report.withheld
        asked = {body["messages"][-1]["content"] for body in played.asked}
    assert set(report.withheld) == {REPEAT, NEAR_COPY, GROUP}
    assert report.asked == len(asked) == 100 - sum(report.withheld.values())
    assert "share a group with one of it" in "\n".join(summary(spec, report))
    train, test = (_examples(tmp_path / "labels" / name) for name in ("train.jsonl", "test.jsonl"))
    assert len(test) == 20
    assert len(train) == report.training == report.asked - 20 > 20
    assert not {normal(each.request) for each in train} & {normal(each.request) for each in test}
    assert not {each.meta.group for each in train} & {each.meta.group for each in test}
    found = findings_in(tmp_path, {"train": train, "people": test}, data={"group": "customer"})
    assert not {"D008", "D012"} & {each.code for each in found}
    assert rows_of(spec, "sample.jsonl").keys() == rows_of(spec, "test.jsonl").keys()


def _examples(file: Path) -> list[Example]:
    read_ones: list[Any] = list(read(file, columns=Columns(group="customer")))
    return [each for each in read_ones if isinstance(each, Example)]
