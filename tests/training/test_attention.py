"""Attention over packed batches, by a GPU's kernels, which a CPU also has, and by a CPU's products: exact, with masks
built once for all layers, and without scores that are kept."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from tests.training.test_fast_paths import assert_same, gradients, packed, plain
from tunewright.config.sections import TrainSpec
from tunewright.models.meter import GpuAttention, Meter
from tunewright.tasks import LabelTrie
from tunewright.training.engine import attention, line_attention
from tunewright.training.engine.fast_paths import TrainingEngine, fit_engine, supervised_loss
from tunewright.training.engine.packing import pack
from tunewright.training.loop.answering import likeliest_labels
from tunewright.training.loop.encode import IGNORED, Row
from tunewright.training.planning.footprint import footprint

pytestmark = pytest.mark.slow  # its libraries take seconds to import

SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
MODELS = {
    "a key head for each query head": LlamaConfig(**SHAPE, num_key_value_heads=4),
    "two query heads to a key head": LlamaConfig(**SHAPE, num_key_value_heads=2),
    "a window within the prompt": MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=8),
    "a window into the prompt": MistralConfig(**SHAPE, num_key_value_heads=1, sliding_window=45),
}


def rows(shared: int, *own: int) -> list[Row]:
    """Examples with a common prefix, two learnt tokens in each."""
    draw = torch.Generator().manual_seed(shared + len(own))
    prefix = torch.randint(3, 90, (shared,), generator=draw).tolist()
    examples: list[Row] = []
    for length in own:
        ids = torch.randint(3, 90, (length,), generator=draw).tolist()
        examples.append({"input_ids": [*prefix, *ids], "labels": [IGNORED] * (shared + length - 2) + ids[-2:]})
    return examples


BATCHES = {
    "short": rows(40, 5, 19, 30, 6, 6, 7, 40),
    "longer than the prompt": rows(20, 70, 30, 90),
    "nothing shared": rows(0, 50, 40, 64),
    "several prompts": [*rows(40, 5, 19), *rows(61, 8, 9, 10), *rows(0, 30)],
}


def adapted(config: Any) -> Any:
    torch.manual_seed(0)
    model = (MistralForCausalLM if config.model_type == "mistral" else LlamaForCausalLM)(config)
    return get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take the code paths of a GPU."""
    monkeypatch.setattr(attention, "_SCORES", 0)
    return monkeypatch


@pytest.mark.parametrize("alone", [2**22, 0], ids=["in lines", "one by one"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("model", MODELS)
def test_gpu_paths_give_the_loss_and_gradients_of_examples_one_by_one(
    kernels: pytest.MonkeyPatch, model: str, batch: str, alone: int
) -> None:
    kernels.setattr(attention, "_ALONE", alone)
    tuned, some = adapted(MODELS[model]), BATCHES[batch]
    expected = plain(copy.deepcopy(tuned), some)
    engine = fit_engine(tuned, some)
    assert engine.shared_prefix, engine.reasons
    for long_lines in (False, True):
        engine.long_lines = long_lines
        loss = supervised_loss(tuned, engine.collate(some))
        loss.backward()
        assert_same((float(loss.detach()), gradients(tuned)), expected)


@pytest.mark.parametrize("scores", [2**22, 2**12, 1], ids=["at once", "some lines", "line by line"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("model", MODELS)
def test_products_give_the_loss_and_gradients_of_examples_one_by_one(
    monkeypatch: pytest.MonkeyPatch, model: str, batch: str, scores: int
) -> None:
    monkeypatch.setattr(line_attention, "_AT_ONCE", scores)
    tuned, some = adapted(MODELS[model]), BATCHES[batch]
    expected = plain(copy.deepcopy(tuned), some)
    assert_same(packed(tuned, some), expected)


def test_a_cpu_keeps_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer's attention keeps queries, keys, values and masks: a fraction of the scores, which it computes twice."""
    shared, some = 400, rows(400, *[60] * 16)
    (group,) = pack(some)["layout"]
    lines, length = group["index"].shape
    query, key, value = (torch.randn(1, heads, shared + group["own"], 8).requires_grad_() for heads in (4, 2, 2))
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    monkeypatch.setattr(line_attention, "_AT_ONCE", 2**16)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        seen, _ = attention.packed_attention(None, query, key, value, None, layout=[group])
    assert sum(kept.values()) < 4 * 4 * lines * length * (shared + length) / 4
    seen.sum().backward()
    assert query.grad is not None


@pytest.mark.parametrize("model", MODELS)
def test_answers_from_cached_prompts_are_those_of_the_plain_path(kernels: pytest.MonkeyPatch, model: str) -> None:
    tuned = adapted(MODELS[model]).eval()
    trie = LabelTrie([(5, 9, 2), (5, 11, 2), (7, 2), (8, 9, 10, 2)])
    prompts = [row["input_ids"] for row in [*BATCHES["short"], *BATCHES["several prompts"]]]
    found = []
    for engine in (
        TrainingEngine(),
        TrainingEngine(shared_prefix=True),
        TrainingEngine(shared_prefix=True, long_lines=True),
    ):
        fit_engine(tuned, BATCHES["short"])
        if not engine.shared_prefix:
            tuned.get_base_model().set_attn_implementation("sdpa")
        found.append(likeliest_labels(tuned, engine, prompts, trie, at_once=5))
    for ours in found[1:]:
        assert [label for label, _ in ours] == [label for label, _ in found[0]]
        assert [p for _, p in ours] == pytest.approx([p for _, p in found[0]], rel=1e-4)
    kernels.undo()


class Calls(TorchDispatchMode):
    """Counts calls of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func._overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def calls(config: Any, some: Sequence[Row]) -> Counter[str]:
    tuned = adapted(config)
    engine = fit_engine(tuned, some)
    engine.long_lines = True
    with torch.no_grad(), Calls() as counted:
        supervised_loss(tuned, engine.collate(some))
    return counted.names


@pytest.mark.parametrize("way", [{}, {"_SCORES": 0}, {"_SCORES": 0, "_ALONE": 0}], ids=["CPU", "lines", "one by one"])
@pytest.mark.parametrize("window", [None, 45])
def test_masks_are_built_once_a_batch(monkeypatch: pytest.MonkeyPatch, way: dict[str, int], window: int | None) -> None:
    """More layers build no more masks, and nothing is repeated for query heads."""
    for name, value in way.items():
        monkeypatch.setattr(attention, name, value)
    kind = MistralConfig if window else LlamaConfig
    more = {"sliding_window": window} if window else {}
    few, many = (
        calls(kind(**{**SHAPE, "num_hidden_layers": layers}, num_key_value_heads=2, **more), BATCHES["several prompts"])
        for layers in (2, 5)
    )
    for name in ("masked_fill_", "masked_fill", "bitwise_not", "tril", "triu", "ones", "new_zeros", "zeros", "lt"):
        assert many[name] == few[name], name
    assert many["masked_fill_"]
    assert many["repeat_interleave"] == many["repeat"] == 0


def test_a_gpu_keeps_keys_once_a_key_head_and_no_mask_a_layer() -> None:
    """Each further layer keeps only queries, keys, values, the output and one number a row."""
    heads, key_heads, width, shared, own, count = 8, 2, 16, 256, 64, 16
    query, key = (torch.empty(1, each, shared + own * count, width) for each in (heads, key_heads))
    query, key, value = (x.to("meta", torch.bfloat16).requires_grad_() for x in (query, key, key))
    ids = [[*range(shared), *([shared + number] * (own + 1))] for number in range(count)]
    some: list[Row] = [{"input_ids": each, "labels": [IGNORED] * (len(each) - 1) + each[-1:]} for each in ids]
    layout = pack(some, long_lines=True)["layout"]
    (group,) = [{k: v.to("meta") if hasattr(v, "to") else v for k, v in each.items()} for each in layout]
    lines, length = group["index"].shape
    assert (lines, length) == (4, 256), "as long as the prefix"
    meter, held, outputs = Meter(), [], []
    with meter, GpuAttention(meter):
        for _ in range(3):
            before = meter.live
            outputs.append(attention.packed_attention(None, query, key, value, None, layout=[group])[0])
            held.append(meter.live - before)
    rows_kept = 4 * heads * (shared + lines * length)
    prefix = 2 * heads * shared * width  # its output; queries, keys and values are views
    lined = 2 * width * lines * (2 * heads * length + 2 * key_heads * (shared + length))
    assert held[2] == held[1] < held[0]
    assert held[1] == rows_kept + prefix + lined + 2 * query.numel(), "and the returned tensor"


def test_long_documents_hold_no_mask_each() -> None:
    """Four documents of 3,000 tokens after a prompt share one mask, where a mask of each line would take 170 MB."""
    config = AutoConfig.for_model("llama", **{**SHAPE, "max_position_embeddings": 8192}, num_key_value_heads=2)
    settings = TrainSpec(gradient_checkpointing=True)
    some = rows(300, 3000, 3000, 2900, 2800)
    assert footprint(config, settings, some, "bfloat16").peak < 120e6
