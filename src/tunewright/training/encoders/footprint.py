"""Estimates memory and work of an encoder's training from its shape, without torch or weights.

All weights are trained, so a rule of thumb holds: each weight costs six operations a token, forward and backward
(Kaplan et al. 2020, "Scaling Laws for Neural Language Models"). Embeddings are looked up and cost none. Attention's own
products, which grow with a text's length, are left out: for texts of 500 tokens and an encoder of width 768 they add a
tenth.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.models.chat import token_counter
from tunewright.models.encoders import EncoderShape, encoder_shape
from tunewright.models.meter import Work
from tunewright.models.resolve import encoder_window
from tunewright.models.sizes import Sizes, sizes_of
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, task_of
from tunewright.tasks.base import chunked
from tunewright.training.encoders.rows import require_short, window_for
from tunewright.training.encoders.settings import reads_lines
from tunewright.training.loop.encode import Row
from tunewright.training.planning.batches import BATCHES, DrawnBatches
from tunewright.training.planning.footprint import Footprint

_PRODUCTS = 6
"""Operations of a trained weight for a token: two forward, four backward."""
_ACTIVATIONS = 34
"""Bytes that a layer keeps of a token for each unit of its width in 16 bits, without attention's scores (Korthikanti
et al. 2022, "Reducing Activation Recomputation in Large Transformer Models"); twice that in float32."""
_MOMENTS = 8
"""Bytes of AdamW's two moments for a weight."""
_STEP = 28
"""Bytes that an optimizer step reads and writes for a weight: value, gradient and moments, and all except the
gradient again."""


def encoder_footprint(sizes: Sizes, shape: EncoderShape, rows: Sequence[Row], dtype: str, readings: int) -> Footprint:
    """The footprint of one training step on a batch, whose texts are padded to the longest.

    Args:
        readings: forward passes over each text in a step.
        dtype: type of products, "float32", "bfloat16" or "float16"; the weights are float32.
    """
    tokens = readings * len(rows) * max(len(row["input_ids"]) for row in rows)
    inner = sizes.parameters - sizes.vocabulary
    layer = 4 * inner // shape.layers
    activations = _ACTIVATIONS * (2 if dtype == "float32" else 1) * tokens * shape.hidden * shape.layers
    return Footprint(
        weights=4 * sizes.parameters,
        trained=sizes.parameters,
        adapter=0,
        optimizer=_MOMENTS * sizes.parameters,
        gradients=4 * sizes.parameters,
        activations=activations,
        logits=0,
        backward=0,
        layer=layer,
        work=Work(flops=float(_PRODUCTS * inner * tokens), moved=float(_STEP * sizes.parameters + 2 * activations)),
    )


def encoder_counter(spec: Spec) -> Any:
    """A function that counts the footprint of a step; see `tunewright.training.planning.plan.Counted`.

    Raises:
        UserError: as `shape_of_encoder`.
    """
    shape, sizes = shape_of_encoder(spec), sizes_of(spec.model, spec.folder)
    sizes = sizes or Sizes.of_encoder(shape.parameters, shape.embeddings)

    def count(rows: Sequence[Row], dtype: str, *, on_cpu: bool = False) -> Footprint:  # noqa: ARG001 (the protocol)
        return encoder_footprint(sizes, shape, rows, dtype, 2 if spec.train.encoder.consistency else 1)

    return count


def shape_of_encoder(spec: Spec) -> EncoderShape:
    """The shape of a spec's base model; no weights are fetched from the hub.

    Raises:
        UserError: it can't be found, or its config.json lacks the shape.
    """
    folder, _ = encoder_window(spec.model, spec.folder)
    shape = encoder_shape(json.loads((folder / "config.json").read_text("utf-8")))
    if shape is None:
        raise UserError(
            f"The config.json of {spec.model_name} does not say how wide and deep it is.",
            where=folder,
            fix="Tunewright can't plan its training. To train without a plan, type: tunewright train …",
        )
    return shape


def encoder_examples(spec: Spec, *parts: Sequence[Example]) -> list[list[Example]]:
    """The training examples that an encoder's training makes of the rows of each part.

    Raises:
        UserError: the encoder can't be found.
    """
    folder, window = encoder_window(spec.model, spec.folder)
    most, _ = window_for(spec, window)
    tokenizer = TextTokenizer(folder, line_ends=reads_lines(spec, parts[0]))
    task, count = task_of(spec.task).within(most - tokenizer.frame), token_counter(tokenizer)
    return [chunked(task, part, count) for part in parts]


def draw_encoder_batches(spec: Spec, examples: Sequence[Example]) -> DrawnBatches:
    """Encode training examples and draw batches of texts with about the same length.

    Args:
        examples: as `encoder_examples` returns them.

    Raises:
        UserError: a text is longer than the encoder reads.
    """
    folder, window = encoder_window(spec.model, spec.folder)
    most, key = window_for(spec, window)
    tokenizer = TextTokenizer(folder, line_ends=reads_lines(spec, examples))
    rows: list[Row] = [{"input_ids": tokenizer.encode_framed(example.request)} for example in examples]
    lengths = [len(row["input_ids"]) for row in rows]
    require_short(examples, lengths, most, key)
    size = min(spec.train.batch_size, len(rows))
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    drawn = [ordered[start : start + size] for start in range(0, len(ordered) - size + 1, size)]
    some = random.Random(spec.seed).sample(drawn, min(BATCHES, len(drawn)))
    return DrawnBatches(
        tokenizer=spec.model,
        heaviest=drawn[-1],
        middle=drawn[len(drawn) // 2],
        tokens=fmean(len(batch) * len(batch[-1]["input_ids"]) for batch in some),
        longest=max(lengths),
        prefix=0,
        mean=fmean(lengths),
        learnt=0.0,
        is_whole=True,
    )
