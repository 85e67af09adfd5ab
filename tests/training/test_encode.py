from __future__ import annotations

import pytest

from tests.conftest import LABELS, CharTokenizer, decode, example
from tunewright.core.errors import UserError
from tunewright.models.chat import ChatTemplate
from tunewright.tasks import ClassifyTask, Example
from tunewright.training.loop.encode import IGNORED, encode_examples

TASK = ClassifyTask("{labels}", dict.fromkeys(LABELS, ""))
TURN = "{% for m in messages %}"


def encode(
    examples: list[Example], template: ChatTemplate | None = None, max_length: int = 1000
) -> list[dict[str, list[int]]]:
    return encode_examples(examples, TASK, template or ChatTemplate.named("chatml"), CharTokenizer(), max_length)


def test_with_the_loss_on_labels_only_decisions_among_the_tries_tokens_are_learnt() -> None:
    task = ClassifyTask("{labels}", dict.fromkeys(["defect", "delivery", "refund"], ""))
    (row,) = encode_examples(
        [example("hello", "delivery")], task, ChatTemplate.named("chatml"), CharTokenizer(), 1000, "labels"
    )
    # First "d" or "r", then the third letter separates "ef" from "el".
    assert decode([label for label in row["labels"] if label != IGNORED]) == "dl"
    assert [decode(offered) for offered in row["choices"]] == ["dr", "fl"]
    answer = row["labels"][-len("delivery<|im_end|>") :]
    assert [place for place, label in enumerate(answer) if label != IGNORED] == [0, 2]


def refusal(source: str) -> str:
    with pytest.raises(UserError) as caught:
        encode([example("hello", "refund")], ChatTemplate(source, "mine.jinja"))
    return caught.value.paragraph()


@pytest.mark.parametrize(
    ("family", "taught"),
    [
        ("chatml", "refund<|im_end|>"),
        ("phi3", "refund<|end|>"),
        ("phi4", "refund<|end|>"),
        ("mistral", " refund</s>"),
        ("llama3", "refund<|eot_id|>"),
    ],
)
def test_exactly_the_answer_and_its_end_token_are_taught(family: str, taught: str) -> None:
    (row,) = encode([example("hello", "refund")], ChatTemplate.named(family))
    assert decode([label for label in row["labels"] if label != IGNORED]) == taught


def test_labels_stand_under_their_own_tokens_and_end_the_row() -> None:
    (row,) = encode([example("hello", "refund")])
    length = len("refund<|im_end|>")
    assert row["labels"][-length:] == row["input_ids"][-length:]
    assert set(row["labels"][:-length]) == {IGNORED}
    assert len(row["labels"]) == len(row["input_ids"])


def test_the_row_is_the_whole_conversation() -> None:
    (row,) = encode([example("hello", "refund")])
    assert decode(row["input_ids"]) == (
        f"<|im_start|>system\n{TASK.system}<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\nrefund<|im_end|>"
    )


def test_every_example_gives_a_row_in_order() -> None:
    rows = encode([example(f"number {n}") for n in range(5)])
    assert [f"number {n}" in decode(row["input_ids"]) for n, row in enumerate(rows)] == [True] * 5


def test_too_long_an_example_is_refused_with_the_length_that_would_do() -> None:
    long = example("x" * 200, "refund", source="train.jsonl:2")
    (row,) = encode([long])
    needed = len(row["input_ids"])
    with pytest.raises(UserError) as caught:
        encode([example("short"), long], max_length=needed - 1)
    message = caught.value.paragraph()
    assert "train.jsonl:2: 1 of 2 examples are longer" in message
    assert f"train.max_length={needed}" in message
    assert len(encode([long], max_length=needed)) == 1


def test_a_template_that_also_teaches_the_request_is_refused() -> None:
    both = "{% if m.role != 'system' %}{% generation %}{{ m.content }}.{% endgeneration %}{% endif %}"
    assert "mine.jinja: The chat template would teach something else" in refusal(f"{TURN}{both}{{% endfor %}}")


def test_a_template_that_teaches_the_whole_conversation_is_refused() -> None:
    whole = "{% generation %}" + TURN + "{{ m.role }}: {{ m.content }}.{% endfor %}{% endgeneration %}"
    assert "would teach something else" in refusal(whole)


def test_a_template_that_teaches_the_request_instead_of_the_answer_is_refused() -> None:
    user = "{% if m.role == 'user' %}{% generation %}{{ m.content }}.{% endgeneration %}"
    assert "would teach something else" in refusal(TURN + user + "{% else %}{{ m.content }}{% endif %}{% endfor %}")


def test_a_template_that_teaches_the_answers_end_token_only_is_refused() -> None:
    end = "{{ m.content }}{% if m.role == 'assistant' %}{% generation %}<end>{% endgeneration %}{% endif %}"
    assert "would teach something else" in refusal(TURN + end + "{% endfor %}")


def test_a_template_whose_marks_are_never_reached_is_refused() -> None:
    never = "{{ m.content }}{% if m.role == 'nobody' %}{% generation %}x{% endgeneration %}{% endif %}"
    assert "would teach something else" in refusal(TURN + never + "{% endfor %}")
