"""The linear model: its n-grams, its fit, its answers, and its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import REPOSITORY, make_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import UserError
from tunewright.data.curve.classical import fit_linear, fit_linear_sets
from tunewright.models.linear_model import LinearModel, Ngrams, ngrams, weighed
from tunewright.models.naming import absolute, identity, published_name
from tunewright.models.resolve import kind_of, locate
from tunewright.training.capabilities import require_able

TEXTS = ["Where is my parcel?", "the parcel never came", "I want my money back", "give me the money back, please"]
LABELS = ["delivery", "delivery", "refund", "refund"]


def test_words_pairs_and_parts_of_words_are_read() -> None:
    words, parts = ngrams("My BOX a")
    assert words == ["my", "box", "my box"]
    assert parts == [
        " m",
        "my",
        "y ",
        " my",
        "my ",
        " my ",
        " b",
        "bo",
        "ox",
        "x ",
        " bo",
        "box",
        "ox ",
        " box",
        "box ",
        " a",
        "a ",
        " a ",
    ]


def test_it_is_scikit_learns_model() -> None:
    """Its features and weights are those of a pipeline of TfidfVectorizers and LinearSVC."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    rows = read_jsonl(REPOSITORY / "examples" / "tickets" / "data" / "train.jsonl")[:200]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    theirs = make_pipeline(make_union(words, parts), LinearSVC(random_state=0)).fit(texts, labels)
    ours = fit_linear(texts, labels)
    assert len(ours.ngrams) == len(words.vocabulary_) + len(parts.vocabulary_)
    asked = [row["text"] for row in read_jsonl(REPOSITORY / "examples" / "tickets" / "data" / "test.jsonl")]
    found = np.array(ours.logits([ours.ngrams.encode_framed(text) for text in asked]))
    assert list(theirs.classes_) == list(ours.labels)
    np.testing.assert_allclose(found, theirs.decision_function(asked), atol=2e-3)


def test_two_labels_have_a_logit_each() -> None:
    model = fit_linear(TEXTS, LABELS)
    for text, label in zip(TEXTS, LABELS, strict=True):
        (logits,) = model.logits([model.ngrams.encode_framed(text)])
        assert model.labels[int(logits.argmax())] == label
        assert logits[0] == pytest.approx(-logits[1])


def test_a_label_that_no_row_has_is_hardly_chosen() -> None:
    model = fit_linear([*TEXTS, "cancel it"], [*LABELS, "cancel"], ["privacy", "refund", "delivery", "cancel"])
    assert model.labels == ("privacy", "refund", "delivery", "cancel")
    (logits,) = model.logits([model.ngrams.encode_framed("cancel it")])
    assert model.labels[int(logits.argmax())] == "cancel"
    assert logits[0] < logits[3]


@pytest.mark.parametrize(
    ("texts", "labels", "usual"),
    [(["a b", "c d", "e"], ["x", "x", "x"], "x"), (["?", "!", "…"], ["x", "y", "y"], "y")],
)
def test_without_any_signal_the_commonest_label_is_given(texts: list[str], labels: list[str], usual: str) -> None:
    model = fit_linear(texts, labels, ["w", "x", "y"])
    (logits,) = model.logits([model.ngrams.encode_framed("anything at all")])
    assert model.labels[int(logits.argmax())] == usual


@pytest.mark.slow
@given(st.lists(st.text(max_size=60), max_size=5))
def test_no_text_has_other_logits_among_others(texts: list[str]) -> None:
    model = fit_linear(TEXTS, LABELS)
    read = [model.ngrams.encode_framed(text) for text in texts]
    together = model.logits(read)
    for sequence, logits in zip(read, together, strict=True):
        assert np.isfinite(logits).all()
        assert (model.logits([sequence])[0] == logits).all()


def test_words_and_parts_have_length_one_each() -> None:
    model = fit_linear(TEXTS, LABELS)
    words = len(model.ngrams.words)
    numbers, values = weighed(model.ngrams.encode_framed("the parcel, the parcel"), words, model.frequency)
    assert np.linalg.norm(values[numbers < words]) == pytest.approx(1)
    assert np.linalg.norm(values[numbers >= words]) == pytest.approx(1)


def test_a_saved_model_loads(tmp_path: Path) -> None:
    model = fit_linear(TEXTS, LABELS)
    model.save(tmp_path / "linear")
    again = LinearModel.load(tmp_path / "linear")
    read = Ngrams.load(tmp_path / "linear").encode_framed("my parcel never came")
    assert read == model.ngrams.encode_framed("my parcel never came")
    assert again.labels == model.labels
    assert (again.logits([read])[0] == model.logits([read])[0]).all()


def test_files_of_two_models_are_refused(tmp_path: Path) -> None:
    fit_linear(TEXTS, LABELS).save(tmp_path / "one")
    fit_linear(TEXTS[1:], LABELS[1:]).save(tmp_path / "other")
    (tmp_path / "one" / "ngrams.json").replace(tmp_path / "other" / "ngrams.json")
    with pytest.raises(UserError, match="not the files of one linear model"):
        LinearModel.load(tmp_path / "other")


def test_it_is_a_model_of_its_own_kind_and_comes_from_nowhere(tmp_path: Path) -> None:
    (tmp_path / "linear").mkdir()
    assert kind_of("linear", tmp_path) == "linear"
    assert absolute("linear", tmp_path) == published_name("linear", tmp_path) == "linear"
    assert "from nothing" in locate("linear", tmp_path)
    assert identity("linear", tmp_path) == identity("linear", Path("/"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": {"kind": "generate", "instruction": "Answer."}}, "this task: it is generate"),
        ({"train": {"init_adapter": "old"}}, "can't start from an adapter"),
    ],
)
def test_an_impossible_spec_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        require_able(make_spec(model="linear", **changes))


def test_of_several_labels_each_is_a_machine_of_its_own_and_constant_ones_stay_so() -> None:
    texts = [f"{'late ' * (n % 2)}{'broken ' * (n % 3 == 0)}parcel number{n}" for n in range(40)]
    held = np.array([[n % 2, n % 3 == 0, True, False] for n in range(40)], bool)
    model = fit_linear_sets(texts, held, ["late", "broken", "always", "never"])
    logits = np.array(model.logits([model.ngrams.encode_framed(text) for text in texts]))
    assert ((logits >= 0) == held).all()
    assert (logits[:, 2] > 0).all()
    assert (logits[:, 3] < 0).all()
    alone = fit_linear(texts, ["yes" if late else "no" for late in held[:, 0]], ["no", "yes"])
    expected = np.array(alone.logits([alone.ngrams.encode_framed(text) for text in texts]))[:, 1]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-5)
