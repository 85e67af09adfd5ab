"""Products whose sums 16 bits can't hold, and float32 products of either library."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunewright.inference.runtimes import products
from tunewright.inference.runtimes.products import (
    float32_product,
    give_fast_products,
    give_float32_logits,
    onednn_is_faster,
    product,
)
from tunewright.training.engine.head import _fused_losses, _logits
from tunewright.training.engine.lora import _fused_lora


def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_sums_beyond_float16_stay_numbers() -> None:
    left, right = torch.full((3, 5000), 20.0).half(), torch.full((5000, 2), 20.0).half()
    assert (left @ right).isinf().all()
    assert torch.equal(float32_product(left, right), torch.full((3, 2), 2e6))


def test_a_gpu_gives_its_sums_as_they_are() -> None:
    """On the meta device, which takes a GPU's way: one operation, no copies of the factors in float32."""
    for name in ("float16", "bfloat16"):
        factors = (torch.empty(shape, dtype=getattr(torch, name), device="meta") for shape in ((3, 5), (5, 2)))
        assert float32_product(*factors).dtype == torch.float32
    assert float32_product(draw(2, 3).double(), draw(3, 2).double()).dtype == torch.float64


def test_logits_of_offered_tokens_are_float32_in_a_float16_training() -> None:
    """accelerate runs its forward pass under autocast, which made them float16: 20 to sixty-fourths."""
    hidden, weight = draw(4, 256).half(), draw(300, 256).half()
    offered = torch.tensor([1, 5, 9])
    wanted = hidden.double() @ weight.double()[offered].t()
    with torch.autocast("cpu", torch.float16):
        found = _logits(hidden, weight, offered, 0.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("among_all", [True, False])
def test_the_loss_of_a_float16_training_is_that_of_float64(among_all: bool) -> None:
    """Half of the probability lies on 131,072 tokens of 4e-6 each, and on some of 1e-8, below float16's smallest."""
    weight = draw(2**17, 16, scale=0.3)
    weight[:, 0] = 1.0
    weight[: 2**16, 0] = -5.0
    weight[7] = 0
    weight[7, 1] = 10.0
    weight = weight.half()
    hidden = torch.zeros(2, 16).half()
    hidden[:, 0], hidden[:, 1] = 1.0, 1.2
    hidden.requires_grad_()
    wanted = torch.tensor([7, 9])
    exact = hidden.detach().double().requires_grad_()
    right = torch.nn.functional.cross_entropy(exact @ weight.double().t(), wanted, reduction="sum")
    right.backward()
    choices = None if among_all else torch.arange(2**17).repeat(2, 1)
    with torch.autocast("cpu", torch.float16):
        loss = _fused_losses(hidden, weight, wanted, choices, 0.0).sum()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(right.detach()), rel=1e-4)
    assert hidden.grad is not None
    assert exact.grad is not None
    assert (hidden.grad - exact.grad).norm() < 1e-3 * exact.grad.norm()


def test_an_adapters_gradients_outlast_the_scale_of_a_float16_training() -> None:
    """Summed over the tokens of a batch they pass 65,504 long before any token's own does."""
    x = torch.full((1000, 4), 30.0).half()
    down, up = torch.full((2, 4), 0.5, requires_grad=True), torch.full((3, 2), 0.5, requires_grad=True)
    y = _fused_lora().apply(x, None, torch.zeros(3, 4).half(), None, torch.float16, None, down, up, 1.0, 0.0)
    y.backward(torch.full_like(y, 100.0))
    assert up.grad is not None
    assert down.grad is not None
    torch.testing.assert_close(up.grad, torch.full((3, 2), 1000 * 100 * 60.0))
    torch.testing.assert_close(down.grad, torch.full((2, 4), 1000 * 150 * 30.0))


def test_a_16_bit_head_answers_in_float32_and_learns_as_before() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).half().eval()
    ids = torch.arange(3, 11)[None]
    with torch.no_grad():
        before = model(ids).logits
        give_float32_logits(model)
        after = model(ids).logits
        hidden = model.model(ids).last_hidden_state
    assert (before.dtype, after.dtype) == (torch.float16, torch.float32)
    torch.testing.assert_close(after, hidden.float() @ model.lm_head.weight.float().t())
    assert model(ids).logits.dtype == torch.float16


@pytest.mark.parametrize(
    ("vendor", "flags", "faster"),
    [
        ("AuthenticAMD", {"avx512f"}, True),
        ("AuthenticAMD", {"avx2"}, False),
        ("GenuineIntel", {"avx512f"}, False),
        ("", set(), False),
    ],
)
def test_onednn_multiplies_where_mkl_leaves_avx512_unused(
    monkeypatch: pytest.MonkeyPatch, vendor: str, flags: set[str], faster: bool
) -> None:
    monkeypatch.setattr(products, "processor_vendor", lambda: vendor)
    monkeypatch.setattr(products, "cpu_flags", lambda: frozenset(flags))
    assert onednn_is_faster.__wrapped__() is faster


@pytest.fixture(params=[True, False], ids=["oneDNN", "MKL"])
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Either library, whatever this processor would be given."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param)
    return bool(request.param)


@pytest.mark.usefixtures("onednn")
def test_a_product_is_the_same_whichever_way_its_factors_lie() -> None:
    left, right = draw(37, 48), draw(48, 21)
    wanted = (left.double() @ right.double()).float()
    for first in (left, left.t().contiguous().t()):
        for second in (right, right.t().contiguous().t()):
            torch.testing.assert_close(product(first, second), wanted, atol=1e-4, rtol=1e-5)
    assert product(left.bfloat16(), right.bfloat16()).dtype == torch.bfloat16


def test_layers_with_fast_products_answer_and_learn_as_before(onednn: bool) -> None:
    for bias in (True, False):
        layer, x = nn.Linear(24, 40, bias=bias), draw(2, 5, 24)
        wanted = layer(x)
        give_fast_products(layer)
        assert ("forward" in vars(layer)) is onednn
        with torch.no_grad():
            torch.testing.assert_close(layer(x), wanted.detach())
        layer(x).sum().backward()
        assert layer.weight.grad is not None


def test_an_adapter_learns_the_same_from_either_library(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for faster in (True, False):
        monkeypatch.setattr(products, "onednn_is_faster", lambda faster=faster: faster)
        x, down, up = draw(30, 24).requires_grad_(), draw(4, 24).requires_grad_(), draw(40, 4).requires_grad_()
        y = _fused_lora().apply(x, None, draw(40, 24), None, torch.float32, draw(40), down, up, 2.0, 0.0)
        y.square().sum().backward()
        found.append([y.detach(), x.grad, down.grad, up.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-4)
