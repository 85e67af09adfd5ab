"""Every model of the catalogue at its true size, on the meta device: its adapted layers, a step's footprint, its
rows."""

from __future__ import annotations

import pytest

from tests.conftest import CharTokenizer
from tunewright.config.sections import TrainSpec
from tunewright.models.catalogue import catalogue
from tunewright.models.chat import ChatTemplate
from tunewright.tasks import ClassifyTask, Example, Meta
from tunewright.training.loop.encode import encode_examples
from tunewright.training.loop.trainer import adapted_modules
from tunewright.training.planning.footprint import adapted_skeleton, footprint

SHAPES = {name: entry for name, entry in catalogue().items() if entry.shape}
FUSED = {"qkv_proj", "gate_up_proj", "o_proj", "down_proj"}
USUAL = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
PER_LAYER = {"per_layer_input_gate", "per_layer_model_projection", "per_layer_projection"}
ADAPTED = {"phi3": FUSED, "gemma4_text": USUAL | PER_LAYER}
TASK = ClassifyTask("Choose:\n{labels}", {"refund": "", "delivery": "", "defect": ""})
EXAMPLES = [Example.of(f"ticket {i}", list(TASK.labels)[i % 3], Meta(id=str(i))) for i in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_every_linear_layer_is_adapted_the_fused_ones_too(name: str) -> None:
    entry = SHAPES[name]
    assert entry.shape
    adapted = adapted_modules(adapted_skeleton(entry.shape.config(entry.context), TrainSpec(), "bfloat16"))
    expected = ADAPTED.get(entry.shape.type, USUAL)
    assert {module.rpartition(".")[2] for module in adapted} == expected
    whole = [module for module in adapted if module.endswith("o_proj")]
    assert len(whole) == entry.shape.layers


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly if number % 2 else ()) for number, name in enumerate(SHAPES)]
)
def test_a_step_is_counted_on_rows_of_its_template(name: str) -> None:
    """QLoRA's weights take half a byte a parameter; the embeddings stay in two bytes."""
    entry = SHAPES[name]
    shape = entry.shape
    assert shape
    rows = encode_examples(EXAMPLES, TASK, ChatTemplate.named(entry.template), CharTokenizer(), 4096)
    assert all(len(row["input_ids"]) < 4096 for row in rows)
    rows = [row | {"input_ids": [token % shape.vocabulary for token in row["input_ids"]]} for row in rows]
    counted = footprint(shape.config(entry.context), TrainSpec(method="qlora"), rows, "bfloat16")
    embedded = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    embedded += shape.more.get("vocab_size_per_layer_input", 0) * shape.layers * 256
    packed = entry.parameters * 1e9 - embedded
    assert counted.weights == pytest.approx(2 * embedded + packed * 4.127 / 8, rel=0.02)
    assert counted.work.flops > 2 * packed * sum(len(row["input_ids"]) for row in rows) / len(rows)
    assert counted.peak < 24 * 2**30
