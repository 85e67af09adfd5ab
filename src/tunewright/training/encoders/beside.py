"""Decides whether a linear model stands beside a trained encoder, and with which weight: the one with the lowest
validation loss.

Stacking (Wolpert 1992) of two models with one weight: the logits are the encoder's plus the weighted ones of the linear
model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunewright.core.progress import say
from tunewright.data.curve.classical import fit_linear
from tunewright.data.dedup.blocks import blocks_of
from tunewright.inference.runtimes.beside import Beside
from tunewright.models.linear_model import Ngrams
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example
from tunewright.training.encoders.network import Network
from tunewright.training.encoders.passes import logits_of
from tunewright.training.loop.encode import Row, weights_of

_FEWEST = 100
"""Fewest independent validation examples with which a linear model is put beside an encoder."""
_SURE = 2.0
"""Standard errors by which the validation loss must fall."""
LARGEST = 100_000_000
"""Most bytes of a linear model beside an encoder, which itself has 22 million in int8."""
_MOST = 50.0
"""Largest weight of a linear model's logits: beyond it the encoder would contribute nothing."""

Floats = npt.NDArray[np.float64]


def fit_beside(
    network: Network,
    tokenizer: TextTokenizer,
    rows: Sequence[Row],
    validation_rows: Sequence[Row],
    examples: Sequence[Example],
) -> Beside | None:
    """The linear model that improves an encoder; None if none certainly does.

    Args:
        network: the trained encoder, for a task with one label a text.
        rows: rows of the training part.
        validation_rows, examples: rows and examples of the validation part.
    """
    texts = [tokenizer.text_of(row["input_ids"]) for row in rows]
    size = 4 * len(Ngrams.of(texts)) * len(network.labels)
    if size > LARGEST:
        say(f"  no linear model stands beside it: it would take {size / 1e6:,.0f} MB, more than {LARGEST / 1e6:.0f}")
        return None
    labels = [network.labels[row["labels"][0]] for row in rows]
    linear = fit_linear(texts, labels, network.labels, weights_of(rows))
    read = [row["input_ids"] for row in validation_rows]
    encoder = logits_of(network, read).numpy().astype(np.float64)
    beside = np.array(Beside(linear, tokenizer).logits(read), np.float64)
    weight, before, after = weight_beside(
        encoder, beside, [row["labels"][0] for row in validation_rows], _blocks(examples)
    )
    if not weight:
        return None
    say(f"  a linear model stands beside it: validation loss {before:.3f} → {after:.3f}, calibrated")
    return Beside(linear.times(weight), tokenizer)


def weight_beside(
    encoder: Floats, beside: Floats, gold: Sequence[int], blocks: Sequence[int]
) -> tuple[float, float, float]:
    """The best weight of the other logits: (weight, loss without them, loss with them). Both losses are in nats, at
    their best temperature. The weight is 0 if the gain could be chance.

    Args:
        encoder, beside: logits [texts, labels].
        gold: index of each right label.
        blocks: block of each text; texts of one block may fail together, and count as one.
    """
    from scipy.optimize import minimize

    rows = np.arange(len(gold))
    _, block, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
    counts = 1 / sizes[block]

    def losses(at: Floats) -> Floats:
        scores = at[0] * encoder + at[1] * beside
        return np.asarray(np.logaddexp.reduce(scores, axis=1) - scores[rows, gold], np.float64)

    def best(most: float) -> Floats:
        optimum = minimize(
            lambda at: np.average(losses(at), weights=counts),
            np.array([1.0, min(1.0, most)]),
            method="L-BFGS-B",
            bounds=[(0.05, 20.0), (0.0, most)],
        )
        return np.asarray(optimum.x, np.float64)

    alone, both = best(0.0), best(_MOST)
    gain = np.bincount(block, counts * (losses(alone) - losses(both)))
    before, after = (float(np.average(losses(at), weights=counts)) for at in (alone, both))
    if len(gain) < _FEWEST or gain.mean() <= _SURE * gain.std(ddof=1) / np.sqrt(len(gain)):
        return 0.0, before, before
    return min(float(both[1] / both[0]), _MOST), before, after


def _blocks(examples: Sequence[Example]) -> list[int]:
    """The index of each example's block."""
    number = {example.meta.id: at for at, block in enumerate(blocks_of(examples)) for example in block}
    return [number[example.meta.id] for example in examples]
