"""Tiny random models of every architecture: what is adapted, what is learnt, and that every runtime answers alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.tiny import FAMILIES, NEWER
from tunewright.config import Spec, parse_spec
from tunewright.core.errors import UserError
from tunewright.inference.predictors import LabelScorer
from tunewright.inference.runtimes.ort_model import OrtNextToken
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model
from tunewright.models.chat import ChatTemplate
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import ClassifyTask, Example, Meta
from tunewright.training.loop.encode import Row, encode_examples
from tunewright.training.loop.prepare import Encoder

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

TASK = ClassifyTask("Choose:\n{labels}", {"refund": "", "delivery": "", "defect": ""})


def spec_for(folder: Path, **train: object) -> Spec:
    content = {
        "name": "tiny",
        "task": {"kind": "classify", "instruction": TASK.instruction, "labels": list(TASK.labels)},
        "data": {"train": "none.jsonl"},
        "model": str(folder),
        "train": {"batch_size": 2, "max_steps": 2, "num_checkpoints": 0, "lr": 0.01, "precision": "float32", **train},
    }
    return parse_spec(json.dumps(content), folder / "tunewright.yaml")


EXAMPLES = [
    Example.of(f"ticket {i}" + " again" * (5 * i % 7), list(TASK.labels)[i % 3], Meta(id=str(i))) for i in range(8)
]


def rows(family: str, folder: Path, loss: str = "tokens") -> list[Row]:
    return encode_examples(EXAMPLES, TASK, ChatTemplate.named(family), TextTokenizer(folder), 512, loss)


def trainer_for(tiny_model: tuple[str, Path], scratch: Path, seed: int = 0, **train: object):
    from tunewright.training.loop.trainer import build_trainer

    family, folder = tiny_model
    spec = spec_for(folder, **train)
    return build_trainer(spec, folder, rows(family, folder, spec.train.loss), scratch, seed)


def test_an_example_longer_than_the_model_reads_is_refused(
    make_tiny_model: Callable[[str], tuple[str, Path]],
) -> None:
    encoder = Encoder(spec_for(make_tiny_model("llama3")[1], max_length=100_000))
    assert encoder.rows(EXAMPLES)
    with pytest.raises(UserError, match="this model reads 512"):
        encoder.rows([Example.of("again " * 600, "refund", Meta(id="long"))])


def test_every_linear_layer_is_adapted(any_model: tuple[str, Path], tmp_path: Path) -> None:
    from tunewright.training.loop.trainer import adapted_modules

    adapted = {name.rsplit(".", 1)[-1] for name in adapted_modules(trainer_for(any_model, tmp_path).model)}
    split = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    others = {
        "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
        "gemma4": split | {"per_layer_input_gate", "per_layer_model_projection", "per_layer_projection"},
    }
    assert adapted == others.get(any_model[0].replace("phi4", "phi3"), split)


def test_training_with_only_some_layers_adapted_is_refused(tiny_model: tuple[str, Path]) -> None:
    from peft import LoraConfig, get_peft_model

    from tunewright.training.loop.trainer import adapted_modules

    partly = get_peft_model(load_torch_model(tiny_model[1]), LoraConfig(target_modules=["o_proj", "down_proj"]))
    with pytest.raises(UserError, match="would get no adapter"):
        adapted_modules(partly)


@pytest.mark.parametrize(("checkpointing", "most"), [(False, 16), (True, 2)])
def test_measuring_takes_no_more_examples_at_once_than_the_memory_of_a_step_holds(
    make_tiny_model: Callable[[str], tuple[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkpointing: bool,
    most: int,
) -> None:
    model = make_tiny_model("llama3")
    trainer = trainer_for(model, tmp_path, gradient_checkpointing=checkpointing)
    part = Encoder(spec_for(model[1], gradient_checkpointing=checkpointing)).part(EXAMPLES * 5)
    collate, sizes = trainer.engine.collate, []

    def counting(rows: Sequence[Row]) -> Any:
        sizes.append(len(rows))
        return collate(rows)

    monkeypatch.setattr(trainer.engine, "collate", counting)
    assert len(part.score(trainer.model, trainer.engine).scores) == 40
    assert max(sizes) == most


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_two_steps_change_the_adapter_and_leave_the_base(
    any_model: tuple[str, Path], tmp_path: Path, method: str
) -> None:
    import torch

    trainer = trainer_for(any_model, tmp_path, method=method)
    frozen = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    trainer.train()
    updates = [p for n, p in trainer.model.named_parameters() if "lora_B" in n]
    assert updates and all(p.abs().sum() > 0 for p in updates)
    assert all(torch.equal(p, frozen[n]) for n, p in trainer.model.named_parameters() if n in frozen)


def test_qlora_holds_the_base_in_doubly_quantised_nf4(tiny_model: tuple[str, Path], tmp_path: Path) -> None:
    import bitsandbytes as bnb

    trainer = trainer_for(tiny_model, tmp_path, method="qlora")
    layers = [m for m in trainer.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert layers
    assert all(m.weight.quant_type == "nf4" and m.weight.quant_state.nested for m in layers)


def test_accumulated_batches_take_the_steps_of_large_ones(tiny_model: tuple[str, Path], tmp_path: Path) -> None:
    """The examples' answers differ in length, so a mean of the batches' means would be another loss."""
    import torch

    trained = []
    for size, accumulation in ((8, 1), (3, 3)):
        sizes = {"batch_size": size, "gradient_accumulation_steps": accumulation}
        trainer = trainer_for(tiny_model, tmp_path / str(size), **sizes, epochs=3, max_steps=3)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        trained.append((losses, {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}))
    assert trained[1][0] == pytest.approx(trained[0][0], rel=1e-5)
    for name, value in trained[0][1].items():
        torch.testing.assert_close(trained[1][1][name], value, atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("examples", [1, 3, 8])
def test_a_packed_batch_has_the_loss_and_gradients_of_its_examples_one_by_one(
    any_model: tuple[str, Path], tmp_path: Path, examples: int
) -> None:
    import torch

    trainer = trainer_for(any_model, tmp_path)
    trained = [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]
    torch.manual_seed(0)
    for _, parameter in trained:
        torch.nn.init.normal_(parameter, std=0.05)
    some = [dict(row) for row in trainer.train_dataset][:examples]
    batch = trainer.data_collator(some)
    if examples > 1:
        alone = sum(len(row["input_ids"]) for row in some)
        assert 1 <= len(batch["input_ids"]) < examples and batch["input_ids"].numel() < alone
    ours = trainer.compute_loss(trainer.model, batch)
    ours.backward()
    packed = {name: parameter.grad.clone() for name, parameter in trained}
    trainer.model.zero_grad()
    count = sum(label != -100 for row in some for label in row["labels"])
    total = 0.0
    for row in some:
        logits = trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        labels = torch.tensor(row["labels"])
        loss = torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum") / count
        loss.backward()
        total += float(loss)
    assert float(ours) == pytest.approx(total, rel=1e-5)
    for name, parameter in trained:
        # Gemma 4 does not scale its attention scores: random ones are large, and so is what rounding makes of them.
        torch.testing.assert_close(
            packed[name], parameter.grad, atol=5e-5 if any_model[0] == "gemma4" else 1e-6, rtol=1e-3
        )


def test_the_loss_on_labels_is_minus_the_log_probability_that_is_served(
    any_model: tuple[str, Path], tmp_path: Path
) -> None:
    import torch

    family, folder = any_model
    trainer = trainer_for(any_model, tmp_path, loss="labels")
    batch = trainer.data_collator([dict(row) for row in trainer.train_dataset])
    with torch.no_grad():
        ours = trainer.compute_loss(trainer.model, batch, num_items_in_batch=1)
    scorer = LabelScorer(TorchNextToken(trainer.model), TASK, ChatTemplate.named(family), TextTokenizer(folder))
    served = [scorer.probabilities(scorer.prompts(example.request)[0])[example.answer] for example in EXAMPLES]
    assert float(ours) == pytest.approx(-np.log(served).sum(), abs=1e-4)


def test_an_averaged_adapter_is_the_mean_of_its_members_updates(tiny_model: tuple[str, Path], tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    from tunewright.training.loop.soup_training import average_adapters

    members = []
    for seed in range(3):
        trainer = trainer_for(tiny_model, tmp_path / str(seed), seed=seed)
        trainer.train()
        members.append(tmp_path / str(seed) / "adapter")
        trainer.model.save_pretrained(str(members[-1]))
    average_adapters(members, tmp_path / "mean", "tiny")
    base = load_torch_model(tiny_model[1])

    def merged(adapter: Path) -> dict[str, torch.Tensor]:
        model = PeftModel.from_pretrained(load_torch_model(tiny_model[1]), str(adapter)).merge_and_unload()
        return dict(model.state_dict())

    mean, each = merged(tmp_path / "mean"), [merged(member) for member in members]
    for name, value in mean.items():
        expected = torch.stack([member[name] for member in each]).mean(0)
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4)
    assert any(not torch.equal(mean[name], value) for name, value in base.state_dict().items())


def test_cached_logits_equal_those_of_a_whole_pass(any_model: tuple[str, Path]) -> None:
    import torch

    model = load_torch_model(any_model[1])
    cached = TorchNextToken(model)
    ids = list(range(2, 150))
    # Longer than Mistral's window of 128; forward, a branch back, the same again, an unrelated one.
    for sequence in (ids[:80], ids, [*ids[:70], 9, 8], [*ids[:70], 9, 8], [7, 7, 7]):
        with torch.no_grad():
            whole = model(torch.tensor([sequence])).logits[0, -1].numpy()
        np.testing.assert_allclose(cached(sequence), whole, atol=1e-4)


ONNX = {"fp32": 1e-5, "int8": 0.06, "int4": 0.35}
"""How far ONNX may stray from torch, as a share of the logits' own spread."""


ONNX_CASES = [pytest.param(family, precision) for family in FAMILIES for precision in ONNX]
ONNX_CASES += [pytest.param("qwen3", "int8"), pytest.param("gemma3", "int8")]
ONNX_CASES += [pytest.param(family, "fp32", marks=pytest.mark.nightly) for family in NEWER if family != "gemma4"]
"""OpenVINO, which serves by default, is tried with every family each time (tests/inference/test_openvino.py)."""


@pytest.mark.parametrize(("family", "precision"), ONNX_CASES)
def test_onnx_answers_like_torch(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path, family: str, precision: str
) -> None:
    """Prompts longer than windows, too: Mistral's of all layers, Gemma's of some."""
    from tunewright.exporters.onnx import build_onnx

    folder = make_tiny_model(family)[1]
    build_onnx(folder, tmp_path / "onnx", precision)
    torch_model = TorchNextToken(load_torch_model(folder))
    onnx_model = OrtNextToken(tmp_path / "onnx", context=256)
    ids = list(range(2, 250))
    for sequence in (ids[:80], ids, [*ids[:70], 9, 8], [7, 7, 7]):
        wanted = torch_model(sequence)
        error = np.sqrt(np.mean((onnx_model(sequence) - wanted) ** 2)) / wanted.std()
        assert error < ONNX[precision], f"the error is {error:.1e} of the logits' own spread"


def test_what_onnx_runtime_has_no_parts_for_is_said(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path
) -> None:
    from tunewright.exporters.onnx import build_onnx

    with pytest.raises(UserError, match="ONNX Runtime can't serve a model of this type"):
        build_onnx(make_tiny_model("gemma4")[1], tmp_path / "onnx", "fp32")
