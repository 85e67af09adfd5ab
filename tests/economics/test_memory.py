"""What a model needs of a machine's memory, and what a machine really has."""

from __future__ import annotations

import pytest

from tunewright.economics import memory, price_book
from tunewright.economics.machines import cheapest_holding, free_gpu, free_memory, vllm_room
from tunewright.economics.memory import GIB
from tunewright.models.catalogue import catalogue
from tunewright.models.sizes import Sizes


def sizes(model: str) -> Sizes:
    shape = catalogue()[model].shape
    assert shape
    return Sizes.of(shape)


def test_weights_in_each_precision() -> None:
    phi = sizes("phi-3-mini")
    assert memory.weights(phi, "fp32") == 4 * phi.parameters
    assert memory.weights(phi, "16-bit") == 2 * phi.parameters
    assert memory.weights(phi, "int8") == pytest.approx(1.0 * phi.parameters, rel=0.01)
    assert 0.56 * phi.parameters < memory.weights(phi, "int4") < 0.75 * phi.parameters


def test_a_bundles_size_is_what_the_export_writes() -> None:
    """The bytes of `openvino/model.safetensors` of SmolLM2-135M, as `build_openvino` writes it."""
    smol = sizes("smollm2-135m")
    assert memory.weights(smol, "int8") == pytest.approx(164_276_021, rel=0.01)
    assert memory.weights(smol, "int4") == pytest.approx(124_642_013, rel=0.01)


@pytest.mark.parametrize("model", ["mistral-7b", "llama-3-8b"])
def test_every_step_of_an_8b_model_stays_within_14_gib(model: str) -> None:
    """The floors that `bench/true_size.py` measures."""
    result = sizes(model)
    assert memory.merging(result) < 14 * GIB
    for precision in ("int8", "int4"):
        assert memory.serving(result, precision, context=1024) < 14 * GIB
    assert memory.building(result, "openvino") < 14 * GIB
    assert memory.evaluating(result, nf4=True, half=True) < 14 * GIB
    assert memory.evaluating(result, nf4=False, half=False) < 14 * GIB
    assert memory.building(result, "onnxruntime") < 14 * GIB


def test_phi_3_mini_is_served_within_a_quarter_more_than_its_weights() -> None:
    phi = sizes("phi-3-mini")
    assert memory.serving(phi, "int8", context=256) < 1.25 * memory.weights(phi, "int8")


def test_a_machine_has_less_free_memory_than_its_data_sheet_says() -> None:
    book = price_book()
    t4, a10 = book.machines["Standard_NC4as_T4_v3"], book.machines["Standard_NV36ads_A10_v5"]
    sixth = book.machines["Standard_NV6ads_A10_v5"]
    assert t4.gpu and a10.gpu and sixth.gpu
    assert free_gpu(t4.gpu, book.cards["T4"]) == pytest.approx(14.56)
    assert free_gpu(a10.gpu, book.cards["A10"]) < 22.5
    assert free_gpu(sixth.gpu, book.cards["A10"]) == pytest.approx(free_gpu(a10.gpu, book.cards["A10"]) / 6)
    assert vllm_room(t4.gpu, book.cards["T4"]) < 0.9 * 14.56
    assert all(each.memory_gib for each in book.machines.values())
    small = free_memory(book.machines["Standard_D2s_v5"])
    assert small
    assert 7 * GIB < small < 8 * GIB
    assert free_memory(book.machines["container-apps-2-4"]) == 4 * GIB


def test_the_cheapest_machine_that_holds_something_is_named() -> None:
    book = price_book()
    assert cheapest_holding(book, 5 * GIB) == "Standard_D2s_v5"
    assert cheapest_holding(book, 10 * GIB) == "Standard_D4s_v5"
    assert cheapest_holding(book, 20 * GIB) == "Standard_D8s_v5"
    assert cheapest_holding(book, 1e15) is None
    assert cheapest_holding(book, 6 * GIB, containers=True) == "container-apps-4-8"
