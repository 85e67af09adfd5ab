"""The objective of several labels on tiny random encoders: its loss, where the head begins, what training learns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import LABELS, make_spec
from tests.fixtures.encoders import WINDOW, local, write_encoder
from tunewright.config.sections import EncoderSpec
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Meta, MultiLabelTask
from tunewright.training.encoders.settings import for_encoder
from tunewright.training.loop.encode import Row

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

TASK = MultiLabelTask("Which hold?", dict.fromkeys([*LABELS, "never"], ""))
SETS = ([LABELS[0]], [LABELS[1], LABELS[0]], [LABELS[2]], [])
EXAMPLES = [
    Example.of(f"{' and '.join(each) or 'nothing'} {number}", TASK.written_out(each), Meta(id=str(number)))
    for number, each in enumerate(SETS * 8)
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def objective(smoothing: float = 0.0) -> Any:
    from tunewright.training.encoders.objectives import objective_of

    return objective_of(TASK, EncoderSpec(label_smoothing=smoothing))


def rows(base: Path) -> list[Row]:
    from tunewright.training.encoders.rows import encoded

    return encoded(EXAMPLES, objective(), TextTokenizer(base), WINDOW, "the window")


def trainer_of(base: Path, scratch: Path, **train: Any) -> Any:
    from tunewright.training.encoders.trainer import build_encoder_trainer

    settings = {"precision": "float32", "max_steps": 60, "num_checkpoints": 0, **train}
    task = {"kind": "multi_label", "instruction": "Which hold?", "labels": [*LABELS, "never"]}
    spec = make_spec(base, model=str(base), train=settings, task=task)
    spec = for_encoder(spec, 0)
    taught = rows(base)
    return build_encoder_trainer(spec, local(base), objective(), taught, taught[:3], scratch, 0, settings["max_steps"])


def test_a_row_says_of_each_label_whether_it_holds(base: Path) -> None:
    taught = rows(base)
    assert [row["labels"] for row in taught[:4]] == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert objective().gold(taught[:4]).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert [objective().describe(row) for row in taught[1:4]] == [f"{LABELS[0]}, {LABELS[1]}", LABELS[2], "no label"]
    assert objective().rarest(taught) == "8 have no label; the rarest, never, has 0"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_each_label_by_itself(smoothing: float) -> None:
    import torch

    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    gold = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    p, aim = logits.sigmoid(), gold * (1 - smoothing) + smoothing / 2
    wanted = -(aim * p.log() + (1 - aim) * (1 - p).log()).mean()
    torch.testing.assert_close(objective(smoothing).loss(logits, gold), wanted)


def test_two_readings_disagree_by_the_divergences_of_each_label() -> None:
    import torch
    from torch.distributions import Bernoulli, kl_divergence

    one, other = torch.tensor([[2.0, -1.0], [0.5, 0.0]]), torch.tensor([[1.0, 1.0], [0.5, -3.0]])
    first, second = Bernoulli(logits=one), Bernoulli(logits=other)
    wanted = (kl_divergence(first, second) + kl_divergence(second, first)).mean() / 2
    torch.testing.assert_close(objective().disagreement(one, other, None), wanted)
    assert float(objective().disagreement(one, one, None)) == 0


def test_a_label_begins_at_the_centre_of_its_texts_less_that_of_all(base: Path) -> None:
    import torch

    from tunewright.training.encoders.network import Network

    torch.manual_seed(3)
    network, taught = Network.of(local(base), [*LABELS, "never"], half=False).eval(), rows(base)
    drawn = network.head.weight.data[3].clone()
    objective().begin(network, taught)
    with torch.no_grad():
        vectors = torch.stack([network.embed(torch.tensor([row["input_ids"]]))[0] for row in taught])
    middle = vectors[[n for n in range(len(taught)) if n % 4 != 3]].mean(0)  # of the texts that have a label
    centre = vectors[[n for n in range(len(taught)) if n % 4 == 2]].mean(0)
    way = torch.nn.functional.normalize(centre - middle, dim=-1)
    torch.testing.assert_close(network.head.weight.data[2], way, atol=1e-5, rtol=1e-4)
    assert torch.equal(network.head.weight.data[3], drawn), "one without texts stays as it was drawn"
    between = ((centre + middle) / 2) @ way + network.head.bias.data[2]
    assert float(between) == pytest.approx(0, abs=1e-5)


def test_a_label_that_holds_everywhere_has_a_direction_too(base: Path) -> None:
    import torch

    from tunewright.training.encoders.network import Network

    network = Network.of(local(base), [*LABELS, "never"], half=False).eval()
    taught = [{**row, "labels": [1, 0, 0, 0]} for row in rows(base)]
    objective().begin(network, taught)
    assert float(network.head.weight.data[0].norm()) == pytest.approx(1, abs=1e-4)
    assert torch.isfinite(network(torch.tensor([taught[0]["input_ids"]]))).all()


def test_a_training_learns_what_it_is_taught(base: Path, tmp_path: Path) -> None:
    trainer, taught = trainer_of(base, tmp_path, encoder={"batch_size": 8, "lr": 2e-3, "head_lr": 2e-2}), rows(base)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    answers, of_each = objective().answered(trainer.model.eval(), taught)
    right = [answer == example.answer for answer, example in zip(answers, EXAMPLES, strict=True)]
    assert sum(right) >= 26
    assert np.isfinite(of_each).all()


def test_a_rows_loss_is_the_sum_over_its_labels(base: Path) -> None:
    import torch

    from tunewright.training.encoders.network import Network

    torch.manual_seed(0)
    network, taught = Network.of(local(base), [*LABELS, "never"], half=False).eval(), rows(base)[:5]
    _, found = objective().answered(network, taught)
    with torch.no_grad():
        logits = torch.stack([network(torch.tensor([row["input_ids"]]))[0] for row in taught])
    assert np.mean(found) / 4 == pytest.approx(float(objective().loss(logits, objective().gold(taught))), rel=1e-4)
