"""The counts of the meter against the real memory of tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.test_resolve import CHATML
from tunewright.models.catalogue import catalogue
from tunewright.models.meter import Filtered, GpuAttention, Meter
from tunewright.models.skeleton import MetaWeights, PretendedCpu, config_of, skeleton, tensors_of

SHAPES = {name: entry for name, entry in catalogue().items() if entry.shape}


def test_peak_counts_the_tensors_that_are_alive_together() -> None:
    with Meter() as meter:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = second.view(10, 100) * 2
    assert (meter.peak, meter.live) == (8000, 8000)
    del second, third
    assert meter.live == 0


def test_work_counts_products_and_traffic_but_no_views() -> None:
    with Meter() as meter:
        left, right = torch.empty(20, 30), torch.empty(30, 40)
        assert meter.work.operations == 0
        left.t().view(30, 20)
        left @ right
    assert meter.work.flops == 2 * 20 * 30 * 40
    assert meter.work.moved == 4 * (20 * 30 + 30 * 40 + 20 * 40)


def test_attention_of_a_gpu_keeps_no_scores() -> None:
    query = torch.empty(1, 2, 512, 8, device="meta", requires_grad=True)
    with Meter() as meter, GpuAttention(meter):
        seen = torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        seen.sum().backward()
    assert query.grad is not None
    assert meter.peak < 2 * 512 * 512 * 4
    assert meter.work.flops == 3.5 * 4 * query.numel() * 512


def test_results_that_depend_on_numbers_are_given_without_them() -> None:
    values, mask = torch.empty(1, 8, 3, device="meta"), torch.empty(1, 8, dtype=torch.bool, device="meta")
    with Filtered(kept=5, different=2):
        assert values[mask].shape == (5, 3)
        different, places = torch.unique(values, return_inverse=True)
    assert different.shape == (2,)
    assert places.shape == values.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_of_the_catalogue_has_the_parameters_it_says(name: str) -> None:
    model = skeleton(SHAPES[name].shape.config(), "bfloat16")
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e9 == pytest.approx(
        SHAPES[name].parameters, rel=0.005
    )


def test_only_a_decoder_that_needs_remote_code_has_no_shape() -> None:
    assert [name for name, entry in catalogue().items() if entry.kind == "decoder" and not entry.shape] == [
        "phi-3-small"
    ]


def test_nf4_takes_four_bits_and_its_scales() -> None:
    config = SHAPES["llama-3.2-1b"].shape.config()
    dense, quantised = (skeleton(config, "bfloat16", nf4=nf4) for nf4 in (False, True))
    linear = sum(p.numel() for n, p in dense.named_parameters() if "_proj" in n)
    saved = sum(t.untyped_storage().nbytes() for t in tensors_of(dense)) - sum(
        t.untyped_storage().nbytes() for t in tensors_of(quantised)
    )
    # QLoRA, Dettmers et al. 2023: 4 bits, and 0.127 of scales with double quantisation.
    assert saved * 8 / linear == pytest.approx(16 - 4.127, abs=0.01)


def test_a_skeleton_can_pretend_to_lie_on_a_cpu() -> None:
    model = skeleton(SHAPES["smollm2-135m"].shape.config(), "float32")
    with PretendedCpu(model):
        assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert MetaWeights().moved(torch.ones(2)).device.type == "meta"


def test_a_local_folder_gives_its_own_config(tmp_path: Path) -> None:
    SHAPES["smollm2-135m"].shape.config().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(CHATML, "utf-8")
    assert config_of(str(tmp_path), tmp_path).hidden_size == 576
