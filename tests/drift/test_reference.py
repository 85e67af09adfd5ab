from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_spec
from tests.drift.made import TASK, asked, reference
from tunewright.core.errors import UserError
from tunewright.drift.known import KnownTexts
from tunewright.drift.reference import REFERENCE_FILE, Reference, load_reference
from tunewright.drift.traits import traits_of
from tunewright.tasks import task_of

SECRET = "My name is Quetzalcoatl Huitzilopochtli and my card is 4111111111111111"


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = reference()
    saved.save(tmp_path)
    loaded = load_reference(tmp_path)
    assert loaded is not None
    assert (loaded.rows, loaded.kinds) == (saved.rows, saved.kinds)
    assert all((loaded.numbers[name] == column).all() for name, column in saved.numbers.items())
    texts = asked(50, 3).texts
    assert (loaded.novelty(texts) == saved.novelty(texts)).all()


@pytest.mark.slow
def test_the_same_answers_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = reference().save(tmp_path).read_bytes(), reference().save(tmp_path).read_bytes()
    assert first == second


def test_novelty_is_evenly_spread_over_what_it_is_measured_by_and_high_for_what_is_new() -> None:
    made = reference()
    novelty = made.novelty(asked(400, 5).texts)
    assert 0 <= novelty.min() <= novelty.max() <= 1
    assert 0.4 < novelty.mean() < 0.6
    assert (made.novelty(["Wo bleibt mein Paket?", "xyzzy plugh", ""]) > 0.95).all()
    assert len(made.novelty([])) == 0


def test_a_text_that_occurred_once_leaves_no_trace() -> None:
    """What a guess would be checked against is the same whether the guess is right."""
    taught, judged = asked(800, 1), asked(300, 2)
    without = KnownTexts.of(taught.texts)
    with_it = KnownTexts.of([*taught.texts[:-1], SECRET])
    assert (with_it.known == without.known).all()
    distance, _, unseen = with_it.place([SECRET])
    assert unseen[0] > 0.5
    assert distance[0] > np.quantile(with_it.place(judged.texts)[0], 0.95)


def test_a_reference_holds_no_text(tmp_path: Path) -> None:
    judged = asked(300, 2)
    texts = [*judged.texts, SECRET]
    made = Reference.of(texts, texts, [*judged.answers, "billing"], [*judged.confidences, 0.5], TASK)
    with np.load(made.save(tmp_path), allow_pickle=False) as arrays:
        stored = b"".join(arrays[name].tobytes() for name in arrays)
        words = json.loads(arrays["words"].tobytes())
    assert b"Quetzal" not in stored
    assert b"invoice" not in stored
    assert words["kinds"].keys() == {"answer", "language", "topic"}


def test_rows_can_not_be_put_together_again() -> None:
    assert all((np.diff(column) >= 0).all() for column in reference().numbers.values())


@pytest.mark.parametrize("texts", [["one"], ["same"] * 30, [""], ["a b c", "d e f"], [f"text {n}" for n in range(9)]])
def test_a_few_texts_are_enough_to_make_one(texts: list[str], tmp_path: Path) -> None:
    answers: list[str] = ["billing"] * len(texts)
    Reference.of(texts, texts, answers, [None] * len(texts), TASK).save(tmp_path)
    loaded = load_reference(tmp_path)
    assert loaded is not None
    assert ((loaded.novelty(["anything"]) >= 0) & (loaded.novelty(["anything"]) <= 1)).all()


def test_captures_make_one_of_which_no_text_is_known_and_judged_at_once() -> None:
    live = asked(600, 4)
    made = Reference.from_captures(live.texts, live.answers, live.confidences, TASK, {})
    assert made.rows == 300
    assert 0.4 < made.novelty(asked(400, 9).texts).mean() < 0.6


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    assert load_reference(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_a_broken_reference_is_reported(content: bytes, tmp_path: Path) -> None:
    (tmp_path / REFERENCE_FILE).write_bytes(content)
    with pytest.raises(UserError, match="can't be read"):
        load_reference(tmp_path)


def test_a_reference_nested_too_deeply_is_reported(tmp_path: Path) -> None:
    np.savez(tmp_path / REFERENCE_FILE, words=np.frombuffer(b"[" * 100_000, np.uint8))
    with pytest.raises(UserError, match="can't be read"):
        load_reference(tmp_path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / REFERENCE_FILE, words=np.array([print], dtype=object))
    with pytest.raises(UserError, match="can't be read"):
        load_reference(tmp_path)


def test_records_are_monitored_by_their_filled_fields_and_length() -> None:
    schema = {"type": "object", "properties": {"date": {"type": "string"}, "lines": {"type": "array"}}}
    task = task_of(make_spec(task={"kind": "extract", "instruction": "x", "schema": schema}).task)
    answers = ['{"date":"2026-01-01","lines":[{"sum":1}]}', '{"date":null,"lines":[]}', "not JSON"]
    traits = traits_of(["a"] * 3, answers, [None] * 3, task, KnownTexts.of(["a"]))
    assert traits.kinds["fields"].tolist() == ["date lines", "", "?"]
    assert traits.numbers["answer_length"].tolist() == [len(answer) for answer in answers]
    assert "answer" not in traits.kinds


def test_tool_calls_are_monitored_by_their_tool_and_its_arguments() -> None:
    tools = [
        {"name": name, "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}}
        for name in ("refund_order", "track_order")
    ]
    task = task_of(make_spec(task={"kind": "tools", "instruction": "Help.", "tools": tools}).task)
    answers = [
        '{"name":"refund_order","arguments":{"id":"1"}}',
        '{"name":"track_order","arguments":{}}',
        '{"text":"Hello."}',
        "not JSON",
    ]
    traits = traits_of(["a"] * 4, answers, [None] * 4, task, KnownTexts.of(["a"]))
    assert traits.kinds["answer"].tolist() == ["refund_order", "track_order", "no call", "?"]
    assert traits.kinds["arguments"].tolist() == ["id", "", "", "?"]
    assert traits.numbers["answer_length"].tolist() == [len(answer) for answer in answers]
    assert "fields" not in traits.kinds, "a reference from before holds other kinds under this name"


def test_free_text_is_monitored_by_its_length() -> None:
    task = task_of(make_spec(task={"kind": "generate", "instruction": "x"}).task)
    traits = traits_of(["a"], ["an answer"], [None], task, KnownTexts.of(["a"]))
    assert traits.numbers["answer_length"].tolist() == [9]
    assert traits.kinds.keys() == {"language", "topic"}


@pytest.mark.slow
def test_importing_the_room_imports_no_heavy_library() -> None:
    code = (
        "import sys, tunewright.drift.comparison, tunewright.drift.accuracy, tunewright.drift.two_sample\n"
        "print([name for name in ('sklearn', 'torch', 'scipy.stats', 'sqlalchemy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_several_labels_are_monitored_by_which_hold_together() -> None:
    task = task_of(make_spec(task={"kind": "multi_label", "instruction": "x", "labels": ["a", "b"]}).task)
    traits = traits_of(["x"] * 3, ['["a"]', "[]", '["a","b"]'], [None] * 3, task, KnownTexts.of(["x"]))
    assert traits.kinds["answer"].tolist() == ['["a"]', "[]", '["a","b"]']
    assert "answer_length" not in traits.numbers
