"""float32 products of a small model's layers: torch's own (MKL) and oneDNN's, on one core and on all.

    python bench/products.py        # about ten seconds on a quiet machine

The shapes are SmolLM2-135M's, 300 tokens at once, as in training: forward through a layer, and the gradient back
through it. Both ways take turns, the best of thirty counts. `tunewright.inference.runtimes.products` says which is
taken where.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from unittest.mock import patch

import torch

from tunewright.core.processes import processor
from tunewright.core.threads import threads
from tunewright.inference.runtimes import products

TOKENS, TURNS = 300, 30
LAYERS = {"query, output": (576, 576), "key, value": (576, 192), "gate, up": (576, 1536), "down": (1536, 576)}


def main() -> None:
    print(f"{processor()}, torch {torch.__version__}; taken here: {'oneDNN' if products.onednn_is_faster() else 'MKL'}")
    print(f"{'layer':16}{'in':>6}{'out':>6}{'cores':>7}{'way':>10}{'MKL':>8}{'oneDNN':>8}  GFLOP/s")
    for cores in sorted({1, threads()}):
        torch.set_num_threads(cores)
        for name, (wide, out) in LAYERS.items():
            x, weight, gradient = torch.randn(TOKENS, wide), torch.randn(out, wide), torch.randn(TOKENS, out)
            for way, left, right in (("forward", x, weight.t()), ("back", gradient, weight)):
                mkl, onednn = rates(left, right)
                print(f"{name:16}{wide:6}{out:6}{cores:7}{way:>10}{mkl:8.0f}{onednn:8.0f}  x {onednn / mkl:.2f}")


def rates(left: torch.Tensor, right: torch.Tensor) -> tuple[float, float]:
    """GFLOP a second of both ways."""
    best = [float("inf")] * 2
    for _ in range(TURNS):
        for number, onednn in enumerate((False, True)):
            with patch.object(products, "onednn_is_faster", lambda onednn=onednn: onednn):
                best[number] = min(best[number], seconds(lambda: products.product(left, right)))
    done = 2 * left.shape[0] * left.shape[1] * right.shape[1] / 1e9
    return done / best[0], done / best[1]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
