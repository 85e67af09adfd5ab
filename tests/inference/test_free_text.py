"""Free text ends where it should, and holds nothing but text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from tests.inference.test_grammar import END, TOKENS, VOCABULARY, Reciter
from tunewright.inference.decoding.free_text import StableText, TextRules
from tunewright.inference.decoding.writing import generate, max_answer_tokens
from tunewright.inference.predictors import Answer, GenerationConfig, TextGenerator
from tunewright.models.chat import ChatTemplate
from tunewright.tasks.base import FreeText, JsonRecord, OneOf
from tunewright.tasks.generate import GenerateTask

TEXT = "Open your orders, then choose Return.\n\nKind regards"


class Shouter:
    """A model that likes one token best, whatever came before, and another next."""

    def __init__(self, best: int, next_best: int):
        self._best, self._next = best, next_best

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:  # noqa: ARG002 (the protocol)
        logits = np.zeros(VOCABULARY, np.float32)
        logits[[self._best, self._next]] = 20, 10
        return logits


def test_an_answer_ends_with_the_turn() -> None:
    writer = generate(TextRules(TOKENS, END, ()), Reciter(TEXT), [], 100)
    assert (TOKENS.decode(writer.ids), writer.done, writer.cut) == (TEXT, True, False)
    assert len(writer.log_probabilities) == len(writer.ids)
    assert all(score <= 0 for score in writer.log_probabilities)


def test_a_stop_text_ends_an_answer_wherever_tokens_begin() -> None:
    model = Reciter(TEXT)
    writer = generate(TextRules(TOKENS, END, ["rders, th"]), model, [], 100)
    assert "rders, th" in TOKENS.decode(writer.ids)
    assert not writer.cut
    assert len(writer.ids) < len(TOKENS.encode_verbatim(TEXT))


def test_a_long_answer_is_cut() -> None:
    writer = generate(TextRules(TOKENS, END, ()), Reciter("very " * 100), [], 7)
    assert (len(writer.ids), writer.cut) == (7, True)


def test_no_answer_opens_another_turn() -> None:
    start, word = TOKENS.encode_text("<|im_start|>")[0], TOKENS.encode_text("a")[0]
    writer = generate(TextRules(TOKENS, END, ()), Shouter(start, word), [], 3)
    assert writer.ids == [word] * 3


@pytest.mark.parametrize(
    ("constraint", "limit"),
    [
        (OneOf(("a", "b")), 10),
        (FreeText(7, ()), 7),
        (FreeText(None, ()), 52),
        (JsonRecord({}, {}), 52),
    ],
)
def test_the_token_limit_depends_on_the_kind_of_task(constraint: OneOf | FreeText | JsonRecord, limit: int) -> None:
    assert max_answer_tokens(constraint, 10) == limit


@pytest.mark.parametrize(
    ("so_far", "shown"),
    [
        ("  Hello", "Hello"),
        ("Hello \n", "Hello"),
        ("Hello \nUs", "Hello"),
        ("Hello \nYou", "Hello \nYou"),
        ("Grü\ufffd", "Grü"),
        ("a\r\nb", "a\nb"),
        ("", ""),
    ],
)
def test_only_stable_text_is_shown(so_far: str, shown: str) -> None:
    assert StableText(["\nUser:"]).add(so_far) == shown
    one_by_one = StableText(["\nUser:"])
    assert "".join(map(one_by_one.add, so_far)) == shown


def generator(stop: Sequence[str], model: Reciter) -> TextGenerator:
    task = GenerateTask("Answer.", stop=stop)
    return TextGenerator(model, task, ChatTemplate.named("chatml"), TOKENS, TextRules(TOKENS, END, stop), 100)


@pytest.mark.parametrize("text", ["Grüße, 東京 🎉 done", TEXT, " leading and trailing ", "one\r\ntwo", "נא להזמין"])
def test_the_pieces_of_an_answer_add_up_to_it(text: str) -> None:
    asked = generator(["\n\nKind"], Reciter(text))
    *pieces, answer = asked.stream([], GenerationConfig())
    assert isinstance(answer, Answer)
    assert "".join(map(str, pieces)) == answer.text == asked.answer_prompts([[]]).text
    assert "Kind" not in answer.text
    assert len(pieces) > 1


def test_a_request_may_end_its_answer_sooner() -> None:
    *pieces, answer = generator([], Reciter(TEXT)).stream([], GenerationConfig(["then"]))
    assert isinstance(answer, Answer)
    assert "".join(map(str, pieces)) == answer.text == "Open your orders,"
    *_, answer = generator([], Reciter(TEXT)).stream([], GenerationConfig(max_tokens=3))
    assert isinstance(answer, Answer)
    assert answer.cut


@pytest.mark.parametrize(
    ("of_task", "of_request", "written"),
    [([], ["then"], '{"note":"first '), (["then"], [], '{"note":"first '), ([], ['note"'], '{"'), ([], ["}"], None)],
)
def test_a_stop_text_ends_an_answer_with_a_schema_too(
    of_task: list[str], of_request: list[str], written: str | None
) -> None:
    """As OpenAI's API has it, in one piece as in many; the model writes nothing behind it."""
    text = '{"note":"first then ' + "more " * 5 + '"}'
    model = Reciter(text)
    schema = {"type": "object", "properties": {"note": {"type": "string"}}, "required": ["note"]}
    *pieces, answer = generator(of_task, model).stream([], GenerationConfig(of_request, schema=schema))
    assert isinstance(answer, Answer)
    assert answer.text == (written.rstrip() if written else text[:-1])
    assert "".join(map(str, pieces)) == answer.text
    assert not answer.cut
    if written:
        assert model.calls < 20


def test_a_stop_text_across_a_line_end_ends_a_streamed_answer() -> None:
    *pieces, answer = generator([], Reciter("one\r\ntwo three")).stream([], GenerationConfig(["e\nt"]))
    assert isinstance(answer, Answer)
    assert "".join(map(str, pieces)) == answer.text == "on"


def test_how_sure_a_text_is_does_not_depend_on_its_length() -> None:
    short, long = (generator([], Reciter(text)).answer_prompts([[]]) for text in ("yes", "yes " * 40))
    assert short.confidence == pytest.approx(long.confidence)


def test_a_control_token_that_the_model_lacks_is_no_fault() -> None:
    """Gemma 3's tokenizer has one for pictures, whose number is the size of the text model's vocabulary."""
    rules = TextRules(TOKENS, END, ())
    rules.suppress_tokens = np.array([3, 300], np.int64)
    writer = rules.begin(5)
    logits = np.zeros(300, np.float32)
    logits[[3, 7]] = 9, 8
    writer.choose(logits)
    assert writer.ids == [7]
