"""What each step needs at the true sizes, by rule."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import make_spec
from tests.pipeline.made import sizes
from tunewright.economics import price_book
from tunewright.economics.memory import GIB
from tunewright.models.catalogue import catalogue
from tunewright.models.sizes import sizes_in
from tunewright.pipeline.planning.machines import Machine, priced_machine
from tunewright.pipeline.planning.needs import Need, need_of, runtime_of
from tunewright.pipeline.steps import STEPS, WATCHING_STEPS

SIXTEEN = Machine("sixteen", 16 * GIB, False, None, False, 0.0)


def need(step: str, model: str, machine: Machine = SIXTEEN, **changes: Any) -> Need:
    return need_of((STEPS | WATCHING_STEPS)[step], make_spec(**changes), sizes(model), machine)


@pytest.mark.parametrize("model", ["phi-3-mini", "mistral-7b", "llama-3-8b"])
def test_a_16_gib_machine_does_every_step_with_qlora_and_openvino(model: str) -> None:
    for step in (STEPS | WATCHING_STEPS).values():
        found = need(step.name, model, train={"method": "qlora"}, export={"runtime": "openvino"})
        assert found.memory < 14 * GIB, step.name


def test_onnxruntime_is_built_in_less_memory_than_it_is_served_in() -> None:
    """Its own quantizers would hold 22 GiB for Phi-3-mini."""
    built, served = (need(step, "mistral-7b", export={"runtime": "onnxruntime"}) for step in ("export", "parity"))
    assert built.memory < 1.05 * served.memory
    assert served.memory < 9 * GIB


def test_int4_serves_in_less_and_says_so() -> None:
    eight, four = (need("parity", "mistral-7b", export={"precision": each}) for each in ("int8", "int4"))
    assert four.memory < 0.8 * eight.memory
    assert "int4" in four.because


def test_on_a_gpu_its_own_memory_counts() -> None:
    t4 = priced_machine("Standard_NC4as_T4_v3", price_book())
    assert t4.gpu
    lora, qlora = (need("train", "llama-3-8b", t4, train={"method": each}) for each in ("lora", "qlora"))
    assert lora.gpu > t4.gpu > qlora.gpu
    # In 16 bits Llama-3-8B has 14.96 GiB, and a T4 14.56.
    assert need("evaluate", "llama-3-8b", t4).gpu > t4.gpu
    assert need("evaluate", "phi-3-mini", t4).gpu < t4.gpu
    assert need("parity", "mistral-7b", t4, export={"runtime": "vllm"}).gpu > t4.gpu


def test_disk_is_what_the_export_writes() -> None:
    phi = sizes("phi-3-mini").parameters
    assert need("export", "phi-3-mini").disk == pytest.approx(3 * phi, rel=0.03)  # 2 bytes merged, 1 served
    assert need("export", "phi-3-mini", export={"runtime": "vllm"}).disk == pytest.approx(2 * phi, rel=0.03)
    assert need("bundle", "phi-3-mini").disk == 0  # links


def test_the_runtime_is_the_one_that_the_export_will_choose() -> None:
    assert runtime_of(make_spec(), sizes("phi-3-mini")) == "openvino"
    assert runtime_of(make_spec(), sizes("qwen3-0.6b")) in ("openvino", "onnxruntime")
    assert runtime_of(make_spec(export={"runtime": "onnxruntime"}), sizes("phi-3-mini")) == "onnxruntime"


def test_an_encoder_is_trained_as_a_whole_and_served_in_eight_bits() -> None:
    large = sizes_in(catalogue()["modernbert-large"])
    found = {name: need_of(step, make_spec(), large, SIXTEEN) for name, step in STEPS.items()}
    assert found["train"].memory == pytest.approx(16 * 0.395e9, rel=0.15)
    assert "16 bytes each" in found["train"].because
    assert found["parity"].memory < 1.2 * GIB
    assert found["export"].disk == 0.395e9
    assert not any("adapter" in each.because or "keys and values" in each.because for each in found.values())
    assert runtime_of(make_spec(export={"runtime": "onnxruntime"}), large) == "onnxruntime-encoder"
