"""Weights of rows: what they do in the loss of every kind of model, in figures, and in the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import spec_data, unalike
from tests.crash.linear import bring_up_to_date
from tests.fixtures.encoders import write_encoder
from tests.training.test_families import rows, spec_for
from tests.training.test_fast_paths import assert_same, gradients, packed, peft_model
from tests.training.test_tiny_encoders import EXAMPLES, losses_of, trainer_of
from tunewright.config import load_spec
from tunewright.data import load_dataset
from tunewright.data.curve.classical import fit_linear, fit_linear_sets
from tunewright.data.readers import read
from tunewright.evaluation.evidence import Record, score
from tunewright.models.linear_model import LINEAR, LinearModel
from tunewright.tasks import Example, Message, Meta, MultiLabelTask, task_of
from tunewright.training.loop.encode import IGNORED, Row


def test_a_rows_weight_is_multiplied_with_its_answers() -> None:
    example = Example.of("a", "b", Meta(id="1"), 3.0)
    assert example.importance == 3
    example.messages[-1].weight = 0.5
    assert example.importance == 1.5
    turns = [Message(role="assistant", content="x", weight=0), *example.messages]
    assert Example(messages=turns, meta=example.meta).importance == 0.5, "only the last answer is taught"


@pytest.mark.model
@pytest.mark.parametrize("loss", ["tokens", "labels"])
def test_a_row_of_weight_two_is_learnt_as_if_it_were_there_twice(
    loss: str, make_tiny_model: Callable[[str], tuple[str, Path]]
) -> None:
    family, folder = make_tiny_model("llama3")
    some = rows(family, folder, loss)
    weighted = [row | ({"weight": 2.0} if number == 1 else {}) for number, row in enumerate(some)]
    twice = [*some, some[1]]
    assert_same(packed(peft_model(folder), weighted), packed(peft_model(folder), twice))
    assert_same(padded(peft_model(folder), weighted), padded(peft_model(folder), twice))
    assert_same(packed(peft_model(folder), weighted), padded(peft_model(folder), weighted))


def padded(model: Any, some: Sequence[Row]) -> tuple[float, dict[str, Any]]:
    """Loss and gradients of padded batches."""
    from tunewright.training.engine.fast_paths import supervised_loss
    from tunewright.training.engine.head import add_supervision
    from tunewright.training.engine.packing import pad

    add_supervision(model.get_base_model())
    loss = supervised_loss(model, pad(some))
    loss.backward()
    return float(loss), gradients(model)


@pytest.mark.parametrize("several", [False, True])
def test_an_encoders_loss_is_multiplied_row_by_row(several: bool) -> None:
    import torch

    from tunewright.training.encoders.label_sets import SomeLabels
    from tunewright.training.encoders.objectives import OneLabel

    objective: Any = OneLabel(["a", "b", "c"], 0.1)
    gold = torch.tensor([0, 1, 2, 1])
    if several:
        objective = SomeLabels(MultiLabelTask("?", dict.fromkeys("abc", "")), 0.1)
        gold = torch.nn.functional.one_hot(gold, 3).float()
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([2.0, 1.0, 0.5, 1.0])
    alone = torch.stack([objective.loss(logits[[place]], gold[[place]]) for place in range(4)])
    torch.testing.assert_close(objective.loss(logits, gold, weights), (alone * weights).mean())
    torch.testing.assert_close(objective.loss(logits, gold, torch.ones(4)), objective.loss(logits, gold))


@pytest.mark.model
def test_a_heavy_row_is_no_divergence_in_an_adapters_curve(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path
) -> None:
    """The untouched base model's loss of an answer is known; the curve's begins within that of the rows."""
    from tunewright.training.engine.fast_paths import fit_engine
    from tunewright.training.loop.trainer import build_trainer, row_losses

    family, folder = make_tiny_model("llama3")
    some = rows(family, folder)
    weighted = [row | {"weight": 500.0 if number == 1 else 0.5} for number, row in enumerate(some)]
    trainer = build_trainer(spec_for(folder, max_steps=1, batch_size=len(some)), folder, weighted, tmp_path, 0)
    trainer.train()
    base = peft_model(folder)
    of_rows = [
        loss / sum(label != IGNORED for label in row["labels"])
        for loss, row in zip(row_losses(base, fit_engine(base, some), some, len(some)), some, strict=True)
    ]
    assert 0.99 * min(of_rows) < losses_of(trainer)[0] < 1.01 * max(of_rows)


@pytest.mark.model
def test_a_heavy_row_is_no_divergence_in_an_encoders_curve(tmp_path: Path) -> None:
    folder = write_encoder("bert", tmp_path / "bert")
    heavy = [Example.of(each.request, each.answer, each.meta, 500.0) for each in EXAMPLES]
    curves = []
    for some in (EXAMPLES, heavy):
        trainer = trainer_of(folder, tmp_path, some, max_steps=1)
        trainer.train()
        curves.append(losses_of(trainer))
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


TEXTS = [f"money {word}" for word in ("back", "please", "now", "again", "soon", "first")]


@pytest.mark.parametrize(("weights", "label"), [([1, 1, 1, 9, 9, 9], "b"), ([9, 9, 9, 1, 1, 1], "a")])
def test_a_linear_model_follows_the_heavier_rows(weights: list[float], label: str) -> None:
    labels = ["a", "a", "a", "b", "b", "b"]
    model = fit_linear(TEXTS, labels, weights=weights)
    assert model.labels[int(model.of_texts(["money"])[0].argmax())] == label
    held = np.array([[each == "a", each == "b"] for each in labels])
    sets = fit_linear_sets(TEXTS, held, ["a", "b"], weights)
    assert sets.labels[int(sets.of_texts(["money"])[0].argmax())] == label


def record(identity: int, answer: str, weight: float, **more: Any) -> Record:
    return Record(str(identity), "test", "a", answer, 0.9, 1.0, 1, 1, weight=weight, **more)


def test_figures_count_a_row_as_often_as_its_weight_says() -> None:
    weighted = score([record(1, "a", 3.0), record(2, "b", 1.0)], 0).primary_metric
    repeated = score([*(record(n, "a", 1.0) for n in range(3)), record(9, "b", 1.0)], 0).primary_metric
    assert weighted.value == repeated.value == 0.75
    assert weighted.high - weighted.low > repeated.high - repeated.low, "two rows prove less than four"
    fields = {"field F1": (2.0, 4.0)}
    assert record(1, "a", 3.0, measures=fields).primary_metric == (6.0, 12.0)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Rows that contradict each other, of which half are heavy; one counts nothing."""

    def row(start: str, label: str, number: int, **more: Any) -> dict[str, Any]:
        return {"text": f"{start} {unalike(f'{label} {number}')}", "label": label, **more}

    lines = [row("refund please", "refund", n, weight=1) for n in range(20)]
    lines += [row("refund please", "delivery", n, weight=9) for n in range(20, 40)]
    lines += [row("where is my parcel", "delivery", n) for n in range(40, 60)]
    lines += [{"text": "a row that nobody wants", "label": "refund", "weight": 0}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    spec = spec_data(model="linear", evaluate={"max_examples": 6})
    spec["task"]["labels"] = ["refund", "delivery"]
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    return tmp_path


def test_readers_keep_weights(project: Path) -> None:
    found = [each for each in read(project / "train.jsonl") if isinstance(each, Example)]
    assert [each.importance for each in found[:1] + found[20:21] + found[-1:]] == [1, 9, 0]


@pytest.mark.slow
def test_a_run_leaves_out_rows_of_weight_zero_and_learns_by_weight(project: Path) -> None:
    spec = load_spec(project)
    bring_up_to_date(spec, "train")
    latest = project / "runs" / "latest"
    dataset = load_dataset(latest / "split")
    kept = [*dataset.train, *dataset.validation, *(each for part in dataset.test.values() for each in part)]
    assert len(kept) == 60
    assert {each.importance for each in kept} == {1, 9}
    findings = {each["code"]: each for each in json.loads((latest / "check" / "findings.json").read_text())["findings"]}
    assert findings["D031"]["what"] == "train: 20 rows have a `weight`: 9 (20)"
    assert "has the weight 0, so it is left out (weight-0, once)" in findings["D010"]["what"]
    model, task = LinearModel.load(latest / "train" / LINEAR), task_of(spec.task)
    texts, answers = ([getattr(each, name) for each in dataset.train] for name in ("request", "answer"))
    weighted = fit_linear(texts, answers, task.answers, [each.importance for each in dataset.train])
    assert np.array_equal(model.weight, weighted.weight)
    assert not np.allclose(model.weight, fit_linear(texts, answers, task.answers).weight)
