"""The trial of the fast paths: a few rows, the first layers, once a process; and it detects faults."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.training.test_attention import SHAPE, rows
from tunewright.core.errors import UserError
from tunewright.training.engine import attention
from tunewright.training.engine import fast_paths as engine
from tunewright.training.engine.fast_paths import fit_engine

pytestmark = pytest.mark.slow  # its libraries take seconds to import

SOME = rows(40, 30, 31, 32, 33, 34, 35)


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the results of earlier trials."""
    monkeypatch.setattr(engine, "_TRIAL_RESULTS", {})


def adapted(dtype: str = "float32", **changes: Any) -> Any:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, "num_key_value_heads": 2, **changes})).to(getattr(torch, dtype))
    return get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))


def test_a_deep_model_is_tried_on_two_layers_once() -> None:
    """A trial of all layers on eight rows, one by one, took 135 CPU seconds for Phi-3-mini in NF4, twice."""
    tuned, run = adapted(num_hidden_layers=8), []
    for number, layer in enumerate(tuned.get_base_model().model.layers):
        layer.register_forward_hook(lambda *_, number=number: run.append(number))
    assert fit_engine(tuned, SOME).shared_prefix
    assert set(run) == {0, 1}
    assert len(run) <= 2 * 5
    assert len(tuned.get_base_model().model.layers) == 8
    again = adapted(num_hidden_layers=8)
    run.clear()
    fitted = fit_engine(again, SOME)
    assert fitted.shared_prefix
    assert fitted.fused_head
    assert not run
    assert again.get_base_model().config._attn_implementation == attention.NAME


def test_every_kind_of_layer_is_tried() -> None:
    kinds = ["full_attention", "full_attention", "full_attention", "sliding_attention", "full_attention"]
    tuned = adapted(num_hidden_layers=5)
    tuned.get_base_model().config.layer_types = kinds
    with engine._first_layers(tuned.get_base_model()):
        assert len(tuned.get_base_model().model.layers) == 4


Masks = Callable[[dict[str, Any], Any], tuple[Any, Any]]
FAULTS: dict[str, Masks] = {
    "sees what comes later": lambda group, _: (None, torch.ones_like(group["seen"])),
    "does not see the prefix": lambda group, _: (
        torch.zeros(*group["index"].shape, group["shared"]).bool(),
        group["seen"],
    ),
    "sees itself alone": lambda group, _: (None, torch.eye(group["index"].shape[1]).bool().expand_as(group["seen"])),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_layout_that_is_not_followed_is_detected(monkeypatch: pytest.MonkeyPatch, dtype: str, fault: str) -> None:
    """Also in 16 bits, where rounding changes the loss of two layers by more than the fault."""
    assert fit_engine(adapted(dtype), SOME).shared_prefix
    engine._TRIAL_RESULTS.clear()
    monkeypatch.setattr(attention, "_masks", FAULTS[fault])
    fitted = fit_engine(adapted(dtype), SOME)
    assert not fitted.shared_prefix
    assert "does not follow the layout" in fitted.reasons["shared_prefix"]


def test_a_result_for_one_kind_of_model_does_not_count_for_another() -> None:
    assert fit_engine(adapted(), SOME).fused_head
    torch.manual_seed(0)
    config = GraniteConfig(**{**SHAPE, "num_key_value_heads": 2, "logits_scaling": 8.0})
    scaled = get_peft_model(GraniteForCausalLM(config), LoraConfig(r=4, target_modules="all-linear"))
    fitted = fit_engine(scaled, SOME)
    assert not fitted.fused_head
    assert fitted.shared_prefix, fitted.reasons
    config.logits_scaling = 1.0
    plain = get_peft_model(GraniteForCausalLM(copy.deepcopy(config)), LoraConfig(r=4, target_modules="all-linear"))
    assert fit_engine(plain, SOME).fused_head


def test_a_model_beyond_float16_is_refused_before_it_trains() -> None:
    tuned = adapted("float16")
    with torch.no_grad():
        for name in ("gate_proj", "up_proj"):
            getattr(tuned.get_base_model().model.layers[1].mlp, name).base_layer.weight.mul_(1e5)
    with pytest.raises(UserError, match=r"can't be computed in float16.*train\.precision=float32"):
        fit_engine(tuned, SOME)
