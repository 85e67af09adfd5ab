"""Tiny random encoders of every architecture: training, the folder it writes, and that every runtime answers alike."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import LABELS, make_spec
from tests.fixtures.encoders import FAMILIES, WINDOW, build, local, with_pooling, write_encoder
from tunewright.config import Spec
from tunewright.config.sections import EncoderSpec
from tunewright.core.errors import UserError
from tunewright.inference.runtimes.encoder_model import AT_ONCE, EncoderModel
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import ClassifyTask, Example, Meta
from tunewright.training.encoders.settings import for_encoder
from tunewright.training.loop.encode import Row

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

Logits = npt.NDArray[np.float32]

LENGTHS = (3, 9, 9, 9, 17, 40, WINDOW, WINDOW, 5)
"""Tokens of the texts that runtimes are compared on: a graph is traced with nine."""
TASK = ClassifyTask("Route the ticket.", dict.fromkeys(LABELS, ""))
EXACT = 2e-5
"""Largest difference of a logit between torch and a runtime in float32: 1.4e-6 was measured."""
QUANTISED = 0.15
"""The same in eight bits: 0.065 was measured, where texts' logits lie 0.1 to 1.3 apart."""
RUNTIMES = ("openvino-encoder", "onnxruntime-encoder")

EXAMPLES = [
    Example.of(f"{LABELS[n % 3]} {'again ' * (5 * n % 7)}{n}", LABELS[n % 3], Meta(id=str(n))) for n in range(24)
]


@pytest.fixture(scope="session")
def make_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family -> the folder of its base, which drops out nothing."""

    def made(family: str) -> Path:
        folder = write_encoder(family, tmp_path_factory.mktemp(family))
        config = json.loads((folder / "config.json").read_text("utf-8"))
        without = {key: 0.0 for key in config if key.endswith("dropout_prob") or key.endswith("dropout")}
        (folder / "config.json").write_text(json.dumps(config | without), "utf-8")
        return folder

    return cache(made)


@pytest.fixture(scope="session", params=FAMILIES)
def base(request: pytest.FixtureRequest, make_encoder: Callable[[str], Path]) -> Path:
    """A base of each architecture in turn."""
    return make_encoder(request.param)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in the same order, whatever runs beside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network_of(folder: Path, labels: Sequence[str] = LABELS) -> Any:
    """A network with a drawn head whose labels differ in how likely they are."""
    import torch

    from tunewright.training.encoders.network import Network

    torch.manual_seed(1)
    network = Network.of(local(folder), labels, half=False).eval()
    torch.nn.init.normal_(network.head.bias, std=0.1)
    return network


def texts(lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
    """Token ids of texts of these lengths, in the frame that BERT's have."""
    drawn = np.random.default_rng(0)
    return [[2, *drawn.integers(5, 261, length - 2).tolist(), 3] for length in lengths]


def one_by_one(network: Any, asked: Sequence[Sequence[int]]) -> Logits:
    """torch's logits, each text by itself and without a mask."""
    import torch

    with torch.no_grad():
        return np.stack([network(torch.tensor([ids]))[0].numpy() for ids in asked])


def rows(folder: Path, examples: Sequence[Example] = EXAMPLES) -> list[Row]:
    from tunewright.training.encoders.objectives import objective_of
    from tunewright.training.encoders.rows import encoded

    return encoded(examples, objective_of(TASK, EncoderSpec()), TextTokenizer(folder), WINDOW, "the window")


def spec_of(folder: Path, **train: Any) -> Spec:
    """The spec of a training as `train_encoder` sees it."""
    settings = {"precision": "float32", "max_steps": 4, "num_checkpoints": 0, "encoder": {"batch_size": 8}, **train}
    spec = make_spec(folder, model=str(folder), train=settings)
    return for_encoder(spec, 0)


def trainer_of(folder: Path, scratch: Path, examples: Sequence[Example] = EXAMPLES, **train: Any) -> Any:
    from tunewright.training.encoders.objectives import objective_of
    from tunewright.training.encoders.trainer import build_encoder_trainer
    from tunewright.training.loop.trainer import planned_steps

    spec, taught = spec_of(folder, **train), rows(folder, examples)
    steps = planned_steps(spec, len(taught))
    objective = objective_of(TASK, spec.train.encoder)
    return build_encoder_trainer(spec, local(folder), objective, taught, taught[:3], scratch, 0, steps)


def losses_of(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


@pytest.fixture(scope="module", params=FAMILIES)
def tuned(
    request: pytest.FixtureRequest, make_encoder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """(a network of each architecture, the folder that it was written to)."""
    network, folder = network_of(make_encoder(request.param)), tmp_path_factory.mktemp("tuned") / request.param
    network.save_pretrained(folder)
    return network, folder


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_graph_has_torchs_logits_for_every_length_and_for_each_text_whoever_is_beside_it(
    tuned: tuple[Any, Path], tmp_path: Path, runtime: str, precision: str
) -> None:
    network, folder = tuned
    loss = build(folder, tmp_path / "graph", runtime, precision)
    model = EncoderModel(tmp_path / "graph", context=WINDOW, threads=1)
    together, torchs = np.stack(model.logits(texts())), one_by_one(network, texts())
    assert np.ptp(torchs, axis=0).min() > 0.1, "the texts are told apart"
    off = np.abs(together - torchs).max()
    if precision == "fp32":
        assert off < EXACT
        assert loss.whole == 0
    else:
        assert EXACT < off < QUANTISED
        assert runtime != "openvino-encoder" or 0.001 < loss.relative < 0.01
    alone = np.stack([model.logits([ids])[0] for ids in texts()])
    assert np.array_equal(together, alone)


def test_an_encoder_whose_training_diverged_is_not_exported(
    make_encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    network = network_of(make_encoder("bert"))
    network.head.weight.data[0, 0] = float("nan")
    network.save_pretrained(tmp_path / "tuned")
    with pytest.raises(UserError, match="weights are not finite"):
        build(tmp_path / "tuned", tmp_path / "graph", "openvino-encoder", "int8")


def test_filled_up_rows_have_the_logits_of_texts_by_themselves(tuned: tuple[Any, Path]) -> None:
    from tunewright.training.encoders.passes import logits_of

    network, _ = tuned
    for at_once in (1, 4, 128):
        found = logits_of(network, texts(), at_once).numpy()
        assert found == pytest.approx(one_by_one(network, texts()), abs=EXACT)


def test_what_is_written_is_read_back_to_the_last_bit(tuned: tuple[Any, Path], tmp_path: Path) -> None:
    from tunewright.training.encoders.network import Network

    network, folder = tuned
    again = Network.load(folder)
    assert again.labels == LABELS
    assert not again.training
    assert np.array_equal(one_by_one(again, texts()), one_by_one(network, texts()))
    again.save_pretrained(tmp_path / "again")
    first, second = weights_of(folder), weights_of(tmp_path / "again")
    assert first.keys() == second.keys()
    assert all(bool((first[name] == second[name]).all()) for name in first)


def test_what_is_written_is_a_folder_that_transformers_reads(tuned: tuple[Any, Path]) -> None:
    import torch
    from transformers import AutoModel

    from tunewright.training.encoders.network import without_pooler

    network, folder = tuned
    theirs, info = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    without_pooler(theirs)
    assert not info["unexpected_keys"]
    assert {name.split(".")[0] for name in info["missing_keys"]} <= {"pooler"}
    ids = torch.tensor([texts()[4]])
    with torch.no_grad():
        theirs_hidden = theirs.eval()(input_ids=ids).last_hidden_state
        ours = network.body(input_ids=ids).last_hidden_state
    torch.testing.assert_close(theirs_hidden, ours)


def test_a_narrow_network_answers_as_the_whole_one_and_is_written_whole(base: Path, tmp_path: Path) -> None:
    from tunewright.training.encoders.network import EncoderVocabulary
    from tunewright.training.encoders.passes import logits_of

    network, asked = network_of(base), [row["input_ids"] for row in rows(base)]
    whole, before = logits_of(network, asked), network.state_dict()
    known = EncoderVocabulary(asked, network.padding)
    network.narrow(known)
    assert network.body.get_input_embeddings().weight.shape[0] == len(known.ids) < 100
    narrow = logits_of(network, [network.placed(ids) for ids in asked])
    assert np.array_equal(narrow.numpy(), whole.numpy())
    network.save_pretrained(tmp_path / "saved")
    saved = weights_of(tmp_path / "saved")
    assert {f"body.{name}" for name in saved} == {name for name in before if name.startswith("body.")}
    assert all(bool((value == before[f"body.{name}"]).all()) for name, value in saved.items())


def test_what_is_trained_narrow_keeps_the_other_tokens_as_they_were(base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(base, tmp_path / "scratch")
    trainer.train()
    trainer.model.save_pretrained(tmp_path / "saved")
    embedding, start = trainer.model.body.get_input_embeddings().weight, network_of(base)
    name = next(name for name, value in trainer.model.body.named_parameters() if value is embedding)
    first, last = dict(start.body.named_parameters())[name].detach(), weights_of(tmp_path / "saved")[name]
    changed = (first != last).any(1).nonzero().flatten().tolist()
    taught = {token for row in rows(base) for token in row["input_ids"]}
    assert set(changed) == taught


def test_a_narrow_training_takes_the_steps_of_a_whole_one(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewright.training.encoders.network import Network

    narrow = trainer_of(base, tmp_path / "narrow")
    narrow.train()
    monkeypatch.setattr(Network, "narrow", lambda *_: None)
    whole = trainer_of(base, tmp_path / "whole")
    assert whole.model.body.get_input_embeddings().weight.shape[0] > 250
    whole.train()
    assert losses_of(narrow) == pytest.approx(losses_of(whole), abs=1e-5)
    assert len({round(loss, 3) for loss in losses_of(whole)}) > 1
    for trainer, name in ((narrow, "a"), (whole, "b")):
        trainer.model.save_pretrained(tmp_path / name)
    first, second = weights_of(tmp_path / "a"), weights_of(tmp_path / "b")
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], atol=1e-4, err_msg=name)


def test_a_training_learns_what_it_is_taught(base: Path, tmp_path: Path) -> None:
    from tunewright.training.encoders.passes import logits_of

    encoder = {"batch_size": 8, "epochs": 14, "lr": 2e-3, "head_lr": 2e-2}
    trainer, taught = trainer_of(base, tmp_path, max_steps=40, encoder=encoder), rows(base)
    trainer.engine.objective.lowest = 1.0  # a random encoder knows nothing that slow layers would keep
    trainer.train()
    first, *_, last = losses_of(trainer)
    assert last < 0.7 * first
    found = logits_of(trainer.model.eval(), [trainer.model.placed(row["input_ids"]) for row in taught]).argmax(1)
    assert sum(int(number) == row["labels"][0] for number, row in zip(found, taught, strict=True)) >= 18


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_trained_at_the_rates_and_decays_of_the_spec(
    family: str, make_encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    rates = {"lr": 1e-3, "head_lr": 2e-2, "weight_decay": 0.1}
    trainer = trainer_of(make_encoder(family), tmp_path, encoder=rates)
    lowest, groups = trainer.engine.objective.lowest, trainer.create_optimizer().param_groups
    assert lowest < 1
    trained = {id(value): group for group in groups for value in group["params"]}
    named = dict(trainer.model.named_parameters())
    assert set(trained) == {id(value) for value in named.values()}
    embedding = trainer.model.body.get_input_embeddings().weight
    for name, value in named.items():
        group = trained[id(value)]
        if name.startswith("head."):
            assert group["lr"] == 2e-2, name
        elif "embeddings" in name:
            assert group["lr"] == pytest.approx(lowest * 1e-3), name
        elif re.search(r"layers?\.0\.", name):
            assert group["lr"] == pytest.approx(lowest**0.5 * 1e-3), name
        else:
            assert group["lr"] == 1e-3, name
        decays = value.ndim > 1 and value is not embedding and not name.startswith("head.")
        assert group["weight_decay"] == (0.1 if decays else 0), name


def test_a_label_without_texts_and_one_with_a_single_text_leave_training_whole(
    make_encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    import torch

    taught = [example for example in EXAMPLES if example.answer == LABELS[0]]
    taught.append(Example.of("defect once", LABELS[1], Meta(id="once")))
    trainer = trainer_of(make_encoder("bert"), tmp_path, taught)
    network = trainer.model.eval()
    once = torch.tensor([network.placed(rows(make_encoder("bert"), taught)[-1]["input_ids"])])
    with torch.no_grad():
        torch.testing.assert_close(network.head.weight[1], network.embed(once)[0])
    assert network.head.weight[2].norm() > 0, "nothing is known of a label without texts, and its vector is drawn"
    trainer.train()
    assert np.isfinite(losses_of(trainer)).all()
    assert np.isfinite(one_by_one(network, once.tolist())).all()


def test_a_head_begins_with_the_centres_of_its_labels(make_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    """More texts than one pass has, in another order than by length: none may be counted for another's label."""
    import torch

    folder = make_encoder("mpnet")
    network, start = trainer_of(folder, tmp_path).model.eval(), network_of(folder)
    for number in range(len(LABELS)):
        own = [row["input_ids"] for row in rows(folder) if row["labels"] == [number]]
        with torch.no_grad():
            vectors = torch.cat([start.embed(torch.tensor([ids])) for ids in own])
        centre = torch.nn.functional.normalize(vectors.mean(0), dim=-1)
        torch.testing.assert_close(network.head.weight[number].detach(), centre, atol=1e-5, rtol=0)


def test_a_text_becomes_the_vector_that_its_base_says(make_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    import torch

    from tunewright.exporters.encoders import build_encoder
    from tunewright.training.encoders.network import Network

    found = {}
    for pooling in ("mean", "cls"):
        folder = with_pooling(Path(shutil.copytree(make_encoder("bert"), tmp_path / pooling)), pooling)
        network = network_of(folder)
        ids = torch.tensor(texts([9]))
        with torch.no_grad():
            hidden, vector = network.body(input_ids=ids).last_hidden_state[0], network.embed(ids)[0]
        expected = hidden[0] if pooling == "cls" else hidden.mean(0)
        torch.testing.assert_close(vector, expected / expected.norm())
        network.save_pretrained(tmp_path / f"{pooling} tuned")
        assert Network.load(tmp_path / f"{pooling} tuned").pooling == pooling
        build_encoder(tmp_path / f"{pooling} tuned", tmp_path / f"{pooling} graph", "openvino-encoder", "fp32")
        (found[pooling],) = EncoderModel(tmp_path / f"{pooling} graph", context=WINDOW).logits(texts([9]))
        assert found[pooling] == pytest.approx(one_by_one(network, texts([9]))[0], abs=EXACT)
    assert np.abs(found["mean"] - found["cls"]).max() > 0.1


@pytest.mark.parametrize("precision", ["int4", "bf16"])
def test_a_precision_that_encoders_are_not_served_in_is_refused(precision: str, tmp_path: Path) -> None:
    from tunewright.exporters.encoders import build_encoder

    with pytest.raises(UserError, match=f"can't be served in {precision}"):
        build_encoder(tmp_path, tmp_path / "graph", "openvino-encoder", precision)
    assert not (tmp_path / "graph").exists()


@pytest.fixture(scope="module")
def bert_graph(make_encoder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tunewright.exporters.encoders import build_encoder

    folder = tmp_path_factory.mktemp("graph")
    network_of(make_encoder("bert")).save_pretrained(folder / "tuned")
    build_encoder(folder / "tuned", folder / "graph", "openvino-encoder", "int8")
    return folder / "graph"


def test_more_texts_than_a_pass_holds_come_back_in_their_order(bert_graph: Path) -> None:
    model = EncoderModel(bert_graph, context=WINDOW, threads=1)
    asked = texts([7, 12] * (AT_ONCE + 3))
    found = model.logits(asked)
    for number in (0, 1, 2 * AT_ONCE - 1, 2 * AT_ONCE, 2 * AT_ONCE + 5):
        assert np.array_equal(found[number], model.logits([asked[number]])[0])


def test_no_texts_have_no_logits(bert_graph: Path) -> None:
    """As in a chunk of a batch of which no line can be answered."""
    assert EncoderModel(bert_graph, context=WINDOW).logits([]) == []


def test_a_text_longer_than_the_context_is_an_error(bert_graph: Path) -> None:
    with pytest.raises(ValueError, match="a text of 10 tokens, longer than 9"):
        EncoderModel(bert_graph, context=9).logits(texts([9, 10]))


def test_an_average_is_the_mean_of_every_weight(make_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from tunewright.training.encoders.network import HEAD, Network
    from tunewright.training.encoders.steps import average_encoders

    members = []
    for number in range(3):
        network = network_of(make_encoder("electra"))
        for value in network.parameters():
            value.data += number
        network.save_pretrained(tmp_path / str(number))
        members.append(tmp_path / str(number))
    average_encoders(members, tmp_path / "mean")
    for file in ("model.safetensors", HEAD):
        mean, middle = load_file(tmp_path / "mean" / file), load_file(members[1] / file)
        assert mean.keys() == middle.keys()
        for name, value in mean.items():
            np.testing.assert_allclose(value, middle[name], atol=1e-5, err_msg=name)
    assert np.isfinite(one_by_one(Network.load(tmp_path / "mean"), texts())).all()
    average_encoders(members[:1], tmp_path / "one")
    assert (tmp_path / "one" / HEAD).read_bytes() == (members[0] / HEAD).read_bytes()


def test_each_row_comes_once_an_epoch_beside_rows_of_its_length() -> None:
    from tunewright.training.encoders.trainer import Buckets

    lengths = [int(length) for length in np.random.default_rng(0).integers(3, 60, 1001)]
    batches = list(Buckets(lengths, 8, seed=5))
    assert len(batches) == len(Buckets(lengths, 8, seed=5)) == 126
    assert sorted(number for batch in batches for number in batch) == list(range(1001))
    filled = sum(max(lengths[n] for n in batch) * len(batch) for batch in batches)
    assert filled < 1.1 * sum(lengths)


def test_each_epoch_has_an_order_of_its_own_and_a_seed_repeats_it() -> None:
    from tunewright.training.encoders.trainer import Buckets

    def epochs(seed: int) -> list[list[list[int]]]:
        buckets, found = Buckets([4, 9] * 50, 8, seed), []
        for epoch in (0, 1):
            buckets.set_epoch(epoch)
            found.append(list(buckets))
        return found

    first, second = epochs(5)
    assert first != second
    assert epochs(5) == [first, second]
    assert epochs(6)[0] != first
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_fast_dropout_leaves_out_its_share_and_keeps_the_mean(p: float) -> None:
    import torch

    from tunewright.training.encoders.dropout import FastDropout

    torch.manual_seed(0)
    dropout, x = FastDropout(p), torch.full((300, 401), 2.0, requires_grad=True)
    found = dropout(x)
    dropped = found == 0
    assert dropped.float().mean().item() == pytest.approx(p, abs=0.006)
    assert found.mean().item() == pytest.approx(2, abs=0.02)
    kept = found[~dropped]
    assert kept.min() == kept.max()
    found.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad == 0, dropped), "the gradient goes where the value went"
    assert torch.equal(2 * x.grad, found)
    assert not torch.equal(dropout(x) == 0, dropped), "it draws anew"
    dropout.eval()
    assert torch.equal(dropout(x), x)


def test_fast_dropout_of_nothing_changes_nothing() -> None:
    import torch

    from tunewright.training.encoders.dropout import FastDropout

    x = torch.randn(3, 5)
    assert torch.equal(FastDropout(0.0).train()(x), x)


def test_the_padding_keeps_its_number_where_there_are_as_many_tokens() -> None:
    from tunewright.training.encoders.network import EncoderVocabulary

    kept = EncoderVocabulary([[0, 9, 7, 2], [0, 4, 2]], padding=1)
    assert kept.ids == [0, 1, 2, 4, 7, 9]
    assert kept.place[1] == 1
    last = EncoderVocabulary([[4, 2, 9], [4, 9]], padding=50_283)
    assert last.ids == [2, 4, 9, 50_283]
    assert last.place[50_283] == 3


def test_a_text_longer_than_the_encoder_reads_is_refused_and_its_tokens_are_told(
    make_encoder: Callable[[str], Path],
) -> None:
    long = Example.of("x" * 70, LABELS[0], Meta(id="long", source="train.jsonl:7"))
    with pytest.raises(UserError) as caught:
        rows(make_encoder("bert"), [*EXAMPLES, long])
    said = caught.value.paragraph()
    assert said.startswith("train.jsonl:7: 1 of 25 texts are longer than the window = 64 tokens.")
    assert "The longest has 72." in said


def test_special_words_in_a_text_are_text(make_encoder: Callable[[str], Path]) -> None:
    tokenizer = TextTokenizer(make_encoder("bert"))
    ids = tokenizer.encode_framed("a[SEP]b[PAD]")
    assert (ids[0], ids[-1]) == (2, 3)
    assert not set(ids[1:-1]) & {0, 1, 2, 3, 4}


def test_products_of_gradients_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tunewright.training.encoders import dropout as products

    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.Linear(32, 8, bias=False))
    fast = copy.deepcopy(plain)
    products.give_fast_gradients(fast)
    x = torch.randn(5, 7, 48)
    found = []
    for model in (plain, fast):
        given = x.clone().requires_grad_()
        y = model(given)
        y.square().sum().backward()
        found.append([y, given.grad, *(each.grad for each in model.parameters())])
    for wanted, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)


def test_two_readings_disagree_by_their_divergences_both_ways() -> None:
    import torch

    from tunewright.training.encoders.objectives import OneLabel

    def disagreement(one: Any, other: Any) -> Any:
        return OneLabel(("a", "b"), 0.0).disagreement(one, other, None)

    one, other = torch.tensor([[1.0, 0.0], [2.0, 2.0]]), torch.tensor([[0.0, 1.0], [2.0, 2.0]])
    assert float(disagreement(one, one)) == 0
    first, second = one.softmax(-1), other.softmax(-1)
    there = (second * (second / first).log()).sum() / 2
    back = (first * (first / second).log()).sum() / 2
    torch.testing.assert_close(disagreement(one, other), (there + back) / 2)
    torch.testing.assert_close(disagreement(one, other), disagreement(other, one))


@pytest.mark.parametrize("consistency", [0.0, 2.0])
def test_a_text_is_read_twice_where_its_readings_must_agree(
    consistency: float, make_encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    import torch
    from torch.nn import functional as F

    from tunewright.training.encoders.dropout import FastDropout

    trainer = trainer_of(make_encoder("bert"), tmp_path, encoder={"consistency": consistency, "label_smoothing": 0.05})
    for parent in list(trainer.model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, FastDropout):
                setattr(parent, name, FastDropout(0.25))
    batch = trainer.engine.collate([trainer.train_dataset[n] for n in range(5)])
    torch.manual_seed(1)
    loss = trainer.compute_loss(trainer.model, batch)
    torch.manual_seed(1)
    ids, mask, gold = batch["input_ids"], batch["attention_mask"], batch["labels"]
    if consistency:
        logits = trainer.model(ids.repeat(2, 1), mask.repeat(2, 1))
        wanted = F.cross_entropy(logits, gold.repeat(2), label_smoothing=0.05)
        apart = trainer.engine.objective.disagreement(logits[:5], logits[5:], gold)
        assert apart > 0
        wanted = wanted + consistency * apart
    else:
        wanted = F.cross_entropy(trainer.model(ids, mask), gold, label_smoothing=0.05)
    torch.testing.assert_close(loss, wanted)
