"""The predicted memory of a step, against a real step and against arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tunewright.config.sections import TrainSpec
from tunewright.models.meter import Meter
from tunewright.models.skeleton import tensors_of
from tunewright.training.engine.fast_paths import fit_engine, supervised_loss
from tunewright.training.planning.footprint import footprint

pytestmark = pytest.mark.slow  # its libraries take seconds to import

CONFIG = {
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 160,
    "vocab_size": 3000,
}


def rows(count: int, shared: int = 30, own: int = 20) -> list[dict[str, Any]]:
    ids = [[*range(shared), *([shared + number] * own)] for number in range(count)]
    return [{"input_ids": each, "labels": [-100] * (len(each) - 2) + each[-2:]} for each in ids]


def real(settings: TrainSpec, batch: list[dict[str, Any]]) -> tuple[int, int, float]:
    """(bytes at the decoder's end beyond the fixed ones, peak bytes beyond them, FLOPs) of a real step."""
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **CONFIG), dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    engine = fit_engine(model, batch)
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
        model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    packed = engine.collate(batch)
    meter = Meter()
    meter.hold(tensors_of(model))
    fixed = meter.live
    kept: list[int] = []
    model.get_base_model().base_model.register_forward_hook(lambda *_: kept.append(meter.live - fixed))
    with meter:
        supervised_loss(model, packed).backward()
    return kept[0], meter.peak - fixed, meter.work.flops


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_on_the_meta_device_holds_as_much_as_a_real_one(checkpointing: bool) -> None:
    settings = TrainSpec(gradient_checkpointing=checkpointing)
    kept, peak, flops = real(settings, rows(8))
    counted = footprint(AutoConfig.for_model("llama", **CONFIG), settings, rows(8), "float32", on_cpu=True)
    assert counted.activations == pytest.approx(kept, rel=0.03)
    assert counted.activations + max(counted.logits, counted.backward) == pytest.approx(peak, rel=0.03)
    assert counted.work.flops == pytest.approx(flops, rel=0.01)


def test_fixed_parts_follow_from_the_shape() -> None:
    config = AutoConfig.for_model("llama", **CONFIG)
    counted = footprint(config, TrainSpec(), rows(4), "bfloat16")
    widths = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 160), (64, 160), (160, 64)]
    trained = 6 * 16 * sum(a + b for a, b in widths)
    assert (counted.trained, counted.adapter, counted.optimizer) == (trained, 4 * trained, 8 * trained)
    weights = 2 * (6 * (sum(a * b for a, b in widths) + 2 * 64) + 2 * 3000 * 64 + 64)
    assert counted.weights == pytest.approx(weights, rel=0.001)  # and the frequencies of the position encoding


def test_a_shared_prefix_is_kept_once() -> None:
    config = AutoConfig.for_model("llama", **CONFIG)
    alike, apart = (
        footprint(config, TrainSpec(), batch, "bfloat16").activations for batch in (rows(16, 30, 20), rows(16, 0, 50))
    )
    assert alike / apart == pytest.approx((30 + 16 * 20) / (16 * 50), rel=0.15)


def test_accumulated_gradients_are_there_in_the_next_pass() -> None:
    config = AutoConfig.for_model("llama", **CONFIG)
    settings = TrainSpec()
    once, twice = (
        footprint(config, settings.model_copy(update={"gradient_accumulation_steps": n}), rows(4), "bfloat16")
        for n in (1, 2)
    )
    assert once.gradients == 0
    assert twice.gradients == pytest.approx(twice.adapter, rel=0.02)
    assert once.activations == pytest.approx(twice.activations, rel=0.01)
    assert twice.peak - once.peak == pytest.approx(once.adapter, rel=0.1)


def test_eight_bit_moments_take_a_quarter() -> None:
    config = AutoConfig.for_model("llama", **CONFIG)
    usual, small = (
        footprint(config, TrainSpec(optimizer=name), rows(4), "bfloat16").optimizer
        for name in ("adamw", "paged_adamw_8bit")
    )
    assert small * 4 == usual


def test_a_divided_model_needs_less_but_is_loaded_whole() -> None:
    counted = footprint(AutoConfig.for_model("llama", **CONFIG), TrainSpec(), rows(16), "bfloat16")
    assert counted.weights < counted.sharded(8) < counted.peak
    bare = footprint(AutoConfig.for_model("llama", **CONFIG), TrainSpec(), rows(1, 2, 3), "bfloat16")
    assert bare.sharded(8) == bare.weights + bare.adapter
