"""The cheap baselines: the majority label, linear models, the nearest example, and patterns from the examples."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

import numpy as np

from tunewright.data.curve.classical import LinearSvmClassifier, fit_linear_sets
from tunewright.data.label_sets import held
from tunewright.data.splits.folds import group_of
from tunewright.inference.calibration import scale_of
from tunewright.inference.predictors.base import Answer, Predictor
from tunewright.inference.thresholds import Floats, choose_belief, choose_thresholds, sigmoid
from tunewright.models.linear_model import LinearModel
from tunewright.tasks import Example, MultiLabelTask, Task
from tunewright.tasks.base import FreeText, JsonRecord, OneOf, SomeOf, ToolCall, Unfit
from tunewright.tasks.measures import bare
from tunewright.tasks.multi_label import labels_in

_Key = TypeVar("_Key")

_LEAST = 2
"""A pattern counts if it was right this many times."""


class Nearest:
    """The answer of the training example with the most similar text, by the cosine of TF-IDF vectors.

    Source: Salton & Buckley 1988.
    """

    def __init__(self, known: Sequence[Example]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        self._known = self._vectors.fit_transform([example.request for example in known])
        self._answers = [example.answer for example in known]

    def answer(self, request: str) -> Answer:
        likeness = (self._known @ self._vectors.transform([request]).T).toarray()[:, 0]
        best = int(np.argmax(likeness))
        return Answer(self._answers[best], float(likeness[best]))


@dataclass(frozen=True)
class _Spot:
    """A piece of a text, and the cues to its meaning."""

    text: str
    cues: tuple[str, ...]


class _Weights(dict[_Key, float]):
    """The sum of weights of each key; 0 for one that was never added."""

    def __missing__(self, key: _Key) -> float:
        return 0.0

    def add(self, keys: Iterable[_Key], weight: float) -> None:
        for key in keys:
            self[key] += weight


class Patterns:
    """Regular expressions and dictionaries, as a person would write them who looks at the examples.

    The text is cut into pieces: whole lines, the text behind a colon or a wide space, and words, dates and numbers.
    Each piece has cues: its shape, the words before it in its line, the line above, its position in the text. The
    examples show, for each field, how often a piece with such cues was its value (naive Bayes over cues), and which
    values recur. Each example counts by its weight, and as one if all weights are equal. The answer is the likeliest
    piece that has the field's form, or can be read that way.

    Args:
        canonical: writes a record in its canonical form, or raises Unfit.
    """

    def __init__(self, known: Sequence[Example], canonical: Callable[[str], str]):
        self._canonical = canonical
        self._hits: dict[str, _Weights[str]] = defaultdict(_Weights)
        self._all = _Weights[str]()
        self._values: dict[str, _Weights[str | float]] = defaultdict(_Weights)
        self._shapes: dict[str, _Weights[str]] = defaultdict(_Weights)
        self._sample: dict[str, dict[str, Any]] = {}
        """For each field, a record that has it."""
        self._pieces = 0.0
        self._found = _Weights[str]()
        mean = fmean(example.importance for example in known) if known else 1.0
        for example in known:
            self._learn(example, example.importance / mean)

    def _learn(self, example: Example, weight: float) -> None:
        record = json.loads(example.answer)
        plain = {name: value for name, value in record.items() if isinstance(value, (str, int, float))}
        for name, value in plain.items():
            self._values[name].add([value], weight)
            self._shapes[name].add([_shape(str(value))], weight)
            self._sample.setdefault(name, record)
        for spot in _spots(example.request):
            self._pieces += weight
            self._all.add(spot.cues, weight)
            for name, value in plain.items():
                if _same(spot.text, str(value)):
                    self._found.add([name], weight)
                    self._hits[name].add(spot.cues, weight)

    def answer(self, request: str) -> Answer:
        spots = list(_spots(request))
        values = {name: self._value(name, spots, request) for name in self._values}
        try:
            return Answer(
                self._canonical(json.dumps({name: value for name, value in values.items() if value is not None}))
            )
        except Unfit:  # a required field was not found
            return Answer("{}")

    def _value(self, name: str, spots: Sequence[_Spot], request: str) -> str | float | None:
        """The value of a field: a known value that occurs in the text, or else the likeliest piece of its form."""
        values = self._values[name]
        dictionary = [value for value, count in values.items() if round(count) >= _LEAST and len(str(value)) > 1]
        known = [value for value in dictionary if _occurs_in(str(value), request)]
        if known and len(dictionary) > len(values) / 2:
            return max(known, key=lambda value: len(str(value)))
        if round(self._found[name]) >= _LEAST:
            for spot in sorted(spots, key=lambda spot: -self._odds(name, spot)):
                fitting = [reading for reading in (spot.text, *_readings(spot.text)) if self._fits(name, reading)]
                if fitting:
                    return max(fitting, key=lambda reading: self._shapes[name][_shape(reading)])
        return max(known, key=lambda value: len(str(value)), default=None)

    def _fits(self, name: str, value: str) -> bool:
        """Whether a field may have a value; a known record with this value shows it."""
        try:
            self._canonical(json.dumps(self._sample[name] | {name: value}))
        except Unfit:
            return False
        return bool(value)

    def _odds(self, name: str, spot: _Spot) -> float:
        hits, found = self._hits[name], self._found[name]
        return sum(
            math.log((hits[cue] + 0.5) / (found + 1))
            - math.log((self._all[cue] - hits[cue] + 0.5) / (self._pieces - found + 1))
            for cue in spot.cues
        )


def _spots(text: str) -> Iterator[_Spot]:
    lines = text.splitlines()
    for number, line in enumerate(lines):
        above = _words(lines[number - 1])[-2:] if number else ["^"]
        place = f"line {min(number, 5)}" if number < len(lines) / 2 else f"line -{min(len(lines) - number, 5)}"
        seen = set()
        for match in re.finditer(r"(?=(^.+$))|(?<=: )(\S.*)$|(?<=  )(\S.*)$|(\S+)", line):
            piece = next(group for group in match.groups() if group)
            if piece.strip() in seen:
                continue
            seen.add(piece.strip())
            before = _words(line[: match.start()])
            cues = (
                f"shape {_shape(piece)}",
                f"before {' '.join(before[-2:])}",
                f"first {before[0] if before else ''}",
                f"above {' '.join(above)}",
                place,
                f"whole {piece == line}",
            )
            yield _Spot(piece.strip(" .,;"), cues)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


def _shape(text: str) -> str:
    """The shape of a text: 9 for a run of digits, a for a run of letters, other signs as they are; eight signs at
    most."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", " ".join(text.split())))[:8]


def _same(piece: str, value: str) -> bool:
    """Whether a piece gives a value: the same letters and digits, or the same number or date in another form."""
    return bare(piece) == bare(value) or value in _readings(piece)


def _occurs_in(value: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def _readings(piece: str) -> list[str]:
    """The possible values of a number or a date, as JSON and ISO write them."""
    if date := re.fullmatch(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})", piece):
        first, second, year = date.groups()
        return [f"{year}-{int(second):02}-{int(first):02}", f"{year}-{int(first):02}-{int(second):02}"]
    if number := re.fullmatch(r"[^\d-]{0,3}(-?[\d.,' ]*\d)[^\d]{0,3}", piece):
        digits = number.group(1)
        return [re.sub(r"[,' ]", "", digits), re.sub(r"[.' ]", "", digits).replace(",", ".")]
    return []


def _counted(train: Sequence[Example], labels_of: Callable[[str], Iterable[str]]) -> dict[str, float]:
    """How many rows have each label, by their weights, the commonest first.

    Args:
        labels_of: from an answer to its labels.
    """
    counts: dict[str, float] = defaultdict(float)
    for example in train:
        for label in labels_of(example.answer):
            counts[label] += example.importance
    return dict(sorted(counts.items(), key=lambda each: -each[1]))


def _importance(train: Sequence[Example]) -> Floats:
    return np.array([example.importance for example in train])


class Majority:
    """Always the most frequent training label."""

    def __init__(self, train: Sequence[Example]):
        counts = _counted(train, lambda answer: [answer])
        self._label = next(iter(counts))
        self._share = counts[self._label] / sum(counts.values())

    def answer(self, request: str) -> Answer:  # noqa: ARG002 (the protocol)
        return Answer(self._label, self._share)


class LinearSvm:
    """TF-IDF under a linear support vector machine; see `tunewright.data.curve.classical`."""

    def __init__(self, train: Sequence[Example]):
        texts, answers = [example.request for example in train], [example.answer for example in train]
        self._model = LinearSvmClassifier(texts, answers, _importance(train).tolist())

    def answer(self, request: str) -> Answer:
        return Answer(self._model.predict([request])[0])


_FOLDS = 3


class UsualSet:
    """Always the same labels: the commonest ones, as many as give the largest micro-F1 on the training examples."""

    def __init__(self, train: Sequence[Example], task: MultiLabelTask):
        counts, rows = _counted(train, labels_in), float(_importance(train).sum())
        common, total = list(counts), sum(counts.values())

        def score(size: int) -> float:
            given = sum(counts[label] for label in common[:size])
            return 2 * given / max(size * rows + total, 1e-12)

        kept = set(common[: max(range(len(common) + 1), key=score)])
        self._answer = task.written_out(kept)

    def answer(self, request: str) -> Answer:  # noqa: ARG002 (the protocol)
        return Answer(self._answer)


class LabelSetSvm:
    """A linear model for each label; see `tunewright.data.curve.classical.fit_linear_sets`. Thresholds are chosen as
    for a tuned model, on training examples that the linear model has not seen."""

    def __init__(self, train: Sequence[Example], task: MultiLabelTask):
        self._task, labels = task, list(task.labels)
        texts, gold, weights = [example.request for example in train], held(task, train), _importance(train)
        self._model = fit_linear_sets(texts, gold, labels, weights.tolist())
        groups = {group: number for number, group in enumerate(dict.fromkeys(map(group_of, train)))}
        folds = np.array([groups[group_of(example)] % _FOLDS for example in train])
        unseen = np.full(gold.shape, 0.0)
        for fold in np.unique(folds):
            learnt, others = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            if len(learnt):
                model = fit_linear_sets([texts[row] for row in learnt], gold[learnt], labels, weights[learnt].tolist())
                unseen[others] = _probabilities(model, [texts[row] for row in others])
        counts = weights * scale_of(weights)
        belief = choose_belief(unseen, gold, counts, folds)
        self._thresholds, _ = choose_thresholds(unseen, gold, counts, belief)

    def answer(self, request: str) -> Answer:
        given = _probabilities(self._model, [request])[0] >= self._thresholds
        return Answer(self._task.written_out(np.array(self._model.labels)[given].tolist()))


def _probabilities(model: LinearModel, texts: Sequence[str]) -> Floats:
    """Logistic of the decision values, shape [texts, labels]; it keeps their order but is not calibrated."""
    return sigmoid(np.array(model.of_texts(texts), np.float64))


def controls(task: Task, known: Sequence[Example]) -> dict[str, Predictor]:
    """The baselines that cost next to nothing, by their name in the tables.

    Args:
        known: the examples to learn from.
    """
    match task.constraint:
        case OneOf():
            return {"majority": Majority(known), "svm": LinearSvm(known)}
        case SomeOf():
            assert isinstance(task, MultiLabelTask)
            return {"usual": UsualSet(known, task), "svm": LabelSetSvm(known, task)}
        case ToolCall():
            return {"nearest": Nearest(known)}
        case JsonRecord():
            return {"nearest": Nearest(known), "patterns": Patterns(known, task.canonical)}
        case FreeText():
            return {"nearest": Nearest(known)}
