"""Products whose sums 16 bits can't hold."""

from __future__ import annotations

import pytest
import torch

from tunewright.models.products import float32_product, give_float32_logits
from tunewright.train.head import _fused_losses, _logits
from tunewright.train.lora import _fused_lora


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
    y = _fused_lora().apply(x, torch.zeros(3, 4).half(), None, torch.float16, None, down, up, 1.0, 0.0)
    y.backward(torch.full_like(y, 100.0))
    assert up.grad is not None
    assert down.grad is not None
    torch.testing.assert_close(up.grad, torch.full((3, 2), 1000 * 100 * 60.0))
    torch.testing.assert_close(down.grad, torch.full((2, 4), 1000 * 150 * 30.0))


def test_a_16_bit_head_answers_in_float32_and_learns_as_before() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                         num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
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
