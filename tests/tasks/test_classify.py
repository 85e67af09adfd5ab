from __future__ import annotations

import pytest

from tests.conftest import example
from tunewright.core.errors import UserError
from tunewright.tasks import ClassifyTask
from tunewright.tasks.base import Unfit

TASK = ClassifyTask("Choose one:\n{labels}\n", {"billing": "money matters", "refund": ""})


def test_the_label_list_with_descriptions_stands_where_the_instruction_says() -> None:
    assert TASK.system == "Choose one:\n- billing: money matters\n- refund"


def test_an_instruction_without_the_mark_is_left_alone() -> None:
    assert ClassifyTask("billing or refund?", {"billing": "", "refund": ""}).system == "billing or refund?"


def test_other_braces_in_an_instruction_are_text() -> None:
    assert ClassifyTask("{labels} {json}", {"a": "", "b": ""}).system == "- a\n- b {json}"


def test_the_prompt_is_system_then_request() -> None:
    assert [(m.role, m.content) for m in TASK.prompt("help")] == [("system", TASK.system), ("user", "help")]


def test_shots_stand_between_system_and_request() -> None:
    roles = [m.role for m in TASK.prompt("help", [example("a"), example("b")])]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]


def test_an_answer_is_written_by_the_assistant() -> None:
    assert (TASK.written("refund").role, TASK.written("refund").content) == ("assistant", "refund")


def words(text: str) -> list[int]:
    """A tokenizer that knows each word with the space before it, and else only characters."""
    return [0] if text.startswith(" ") else [0] * len(text)


def test_labels_are_written_behind_a_space_where_the_tokenizer_knows_them_so() -> None:
    fitted = TASK.fitted(words)
    assert fitted.written("refund").content == " refund"
    assert [m.content for m in fitted.prompt("help", [example("a", "refund")])][1:3] == ["a", " refund"]
    assert (fitted.answers, fitted.system) == (TASK.answers, TASK.system)
    assert fitted.canonical(" refund") == "refund"


def test_labels_are_written_bare_where_a_space_gains_nothing() -> None:
    assert TASK.fitted(lambda text: list(range(len(text)))).lead == ""


def test_answers_keep_the_order_of_the_spec() -> None:
    assert ClassifyTask("{labels}", {"z": "", "a": ""}).answers == ["z", "a"]


def test_only_a_label_is_an_answer() -> None:
    assert TASK.canonical("refund") == "refund"
    for text in ("Refund", " refund", "refund please", ""):
        with pytest.raises(Unfit, match="none of the labels"):
            TASK.canonical(text)


def test_a_right_answer_scores_one() -> None:
    assert TASK.measures("help", "refund", "refund") == {"accuracy": (1, 1)}
    assert TASK.measures("help", "refund", "billing") == {"accuracy": (0, 1)}


class Coded:
    LABELS = dict.fromkeys(("refund", "card refund", "card fee", "card lost", "lost card"), "")
    TASK = ClassifyTask("Choose one:\n{labels}", LABELS, single_token_labels=True)

    @staticmethod
    def encode(text: str) -> list[int]:
        """A tokenizer that knows these words, and else only letters."""
        return [0] if text.removeprefix(" ") in ("refund", "card", "fee") else [0] * len(text)


def test_each_label_is_one_token_of_its_own_where_labels_have_codes() -> None:
    fitted = Coded.TASK.fitted(Coded.encode)
    written = {label: fitted.written(label).content for label in fitted.answers}
    assert written["refund"].strip() == "refund"
    assert written["card fee"].strip() == "fee"
    assert all(len(Coded.encode(each)) == 1 for each in written.values())
    assert len(set(written.values())) == len(written)
    assert [fitted.canonical(each) for each in written.values()] == fitted.answers


def test_the_label_list_explains_single_token_labels() -> None:
    lines = Coded.TASK.fitted(Coded.encode).system.splitlines()
    assert "- refund" in lines
    assert "- fee: card fee" in lines


def test_no_code_is_the_name_of_another_label() -> None:
    fitted = ClassifyTask("{labels}", {"lost card": "", "card": ""}, single_token_labels=True).fitted(Coded.encode)
    assert fitted.label_tokens["card"] == "card"
    assert fitted.canonical("card") == "card"


def test_an_untrained_model_writes_labels_out() -> None:
    untaught = Coded.TASK.fitted(Coded.encode).untaught().fitted(Coded.encode)
    assert (untaught.label_tokens, untaught.system) == ({}, ClassifyTask("Choose one:\n{labels}", Coded.LABELS).system)
    assert untaught.written("card fee").content == untaught.lead + "card fee"


def test_too_few_single_tokens_for_the_labels_are_an_error() -> None:
    with pytest.raises(UserError, match="no 5 words of one token"):
        Coded.TASK.fitted(lambda text: list(range(2 * len(text))))
