"""What a reviewer writes becomes the answer that it stands for."""

from __future__ import annotations

import json

import pytest

from tunewright.review.answers import NO_LABEL, AnswerForm
from tunewright.tasks.base import Unfit
from tunewright.tasks.multi_label import MultiLabelTask

ODD = "two\u2028lines\x85and\x0bmore"
FORM = AnswerForm(MultiLabelTask("Say what holds.", {"late": "", ODD: ""}), {})


@pytest.mark.parametrize("labels", [[], ["late"], [ODD], ["late", ODD]])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_shown_is_read_again(labels: list[str], end: str) -> None:
    answer = json.dumps(labels, ensure_ascii=False, separators=(",", ":"))
    shown = FORM.shown(answer)
    assert shown == ("\n".join(labels) or NO_LABEL)
    assert FORM.read(shown.replace("\n", end) + end) == answer


def test_a_part_of_a_label_is_none() -> None:
    with pytest.raises(Unfit):
        FORM.read("lines")
