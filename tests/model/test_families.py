"""Tiny random models of every architecture: what is adapted, what is learnt, and that every runtime answers alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tunewright.models.chat import ChatTemplate
from tunewright.models.ort_model import OrtNextToken
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.torch_model import TorchNextToken, load_torch_model
from tunewright.spec import Spec, parse_spec
from tunewright.tasks import ClassifyTask, Example, Meta
from tunewright.train.encode import encode_examples

pytestmark = pytest.mark.model

TASK = ClassifyTask("Choose:\n{labels}", {"refund": "", "delivery": "", "defect": ""})


def spec_for(folder: Path, **train: object) -> Spec:
    content = {
        "name": "tiny",
        "task": {"kind": "classify", "instruction": TASK.instruction, "labels": list(TASK.labels)},
        "data": {"train": "none.jsonl"},
        "model": str(folder),
        "train": {"batch_size": 2, "max_steps": 2, "checkpoints": 0, "lr": 0.01, **train},
    }
    return parse_spec(json.dumps(content), folder / "tunewright.yaml")


def rows(family: str, folder: Path) -> list[dict[str, list[int]]]:
    examples = [Example.of(f"ticket {i}", label, Meta(id=str(i))) for i, label in enumerate(TASK.labels)]
    return encode_examples(examples, TASK, ChatTemplate.named(family), TextTokenizer(folder), 512)


def trainer_for(tiny_model: tuple[str, Path], scratch: Path, **train: object):
    from tunewright.train.trainer import build_trainer

    family, folder = tiny_model
    encoded = rows(family, folder)
    return build_trainer(spec_for(folder, **train), folder, {"train": encoded, "validation": []}, scratch)


def test_every_linear_layer_is_adapted(tiny_model: tuple[str, Path], tmp_path: Path) -> None:
    from tunewright.train.trainer import adapted_modules

    adapted = {name.rsplit(".", 1)[-1] for name in adapted_modules(trainer_for(tiny_model, tmp_path).model)}
    fused = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    split = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert adapted == (fused if tiny_model[0] == "phi3" else split)


def test_training_with_only_some_layers_adapted_is_refused(tiny_model: tuple[str, Path]) -> None:
    from peft import LoraConfig, get_peft_model

    from tunewright.errors import UserError
    from tunewright.train.trainer import adapted_modules

    partly = get_peft_model(load_torch_model(tiny_model[1]), LoraConfig(target_modules=["o_proj", "down_proj"]))
    with pytest.raises(UserError, match="would not be adapted"):
        adapted_modules(partly)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_two_steps_change_the_adapter_and_leave_the_base(
    tiny_model: tuple[str, Path], tmp_path: Path, method: str
) -> None:
    import torch

    trainer = trainer_for(tiny_model, tmp_path, method=method)
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


def test_the_loss_is_that_of_the_answers_tokens_alone(tiny_model: tuple[str, Path], tmp_path: Path) -> None:
    """Left-padded and projected at the last positions only, it equals the plain loss, example by example unpadded."""
    import torch

    trainer = trainer_for(tiny_model, tmp_path)
    batch = trainer.data_collator([dict(row) for row in trainer.train_dataset])
    assert (batch["attention_mask"] == 0).any(), "the batch must be padded for this test to mean anything"
    total, count = 0.0, 0
    with torch.no_grad():
        ours = trainer.compute_loss(trainer.model, batch)
        for row in trainer.train_dataset:
            logits = trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
            labels = torch.tensor(row["labels"])
            total += torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")
            count += int((labels != -100).sum())
    assert torch.allclose(ours, total / count, atol=1e-4)


def test_cached_logits_equal_those_of_a_whole_pass(tiny_model: tuple[str, Path]) -> None:
    import torch

    model = load_torch_model(tiny_model[1])
    cached = TorchNextToken(model)
    ids = list(range(2, 150))
    # Longer than Mistral's window of 64; forward, a branch back, the same again, an unrelated one.
    for sequence in (ids[:80], ids, [*ids[:70], 9, 8], [*ids[:70], 9, 8], [7, 7, 7]):
        with torch.no_grad():
            whole = model(torch.tensor([sequence])).logits[0, -1].numpy()
        np.testing.assert_allclose(cached(sequence), whole, atol=1e-4)


def test_onnx_answers_like_torch(tiny_model: tuple[str, Path], tmp_path: Path) -> None:
    from tunewright.export.onnx import build_onnx

    family, folder = tiny_model
    build_onnx(folder, tmp_path / "onnx", "fp32")
    torch_model = TorchNextToken(load_torch_model(folder))
    onnx_model = OrtNextToken(tmp_path / "onnx", context=256)
    prompt = ChatTemplate.named(family).encode_prompt(TASK.prompt("where is it?"), TextTokenizer(folder))
    for sequence in (prompt, [*prompt, 5, 6], [*prompt, 9]):
        np.testing.assert_allclose(onnx_model(sequence), torch_model(sequence), atol=1e-3)
