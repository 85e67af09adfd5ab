"""How far quantised weights stray from the merged model in float32, and how fast each answers.

    tunewright run examples/tickets model=smollm2-135m
    python bench/quantise.py [words]      # only forms whose names have the words

Reads the last run's merged model and asks every form the same 200 tickets of the training and validation parts, one at
a time. Agreement, mean and largest Kullback-Leibler divergence of the label probabilities, P50 and P95, size.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import tunewright as tw
from tunewright.core.progress import quiet_libraries
from tunewright.data import load_dataset
from tunewright.exporters.onnx import build_onnx, run_builder
from tunewright.exporters.openvino import build_openvino
from tunewright.inference.predictors import LabelScorer
from tunewright.inference.runtimes.openvino.model import PagedNextToken
from tunewright.inference.runtimes.ort_model import OrtNextToken
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import NextTokenModel, task_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "tickets"
TICKETS = 200
ONNX: dict[str, tuple[str, list[str] | None]] = {
    "fp32": ("fp32", None),
    "int8": ("int8", None),
    "int8, the builder's, blocks of 64": ("int8", ["block_size=64"]),
    "int8, the builder's, blocks of 128": ("int8", ["block_size=128"]),
    "int4": ("int4", None),
    "int4, the builder's mixed k-quants": (
        "int4",
        ["block_size=32", "algo_config=k_quant", "matmul_mixed_precision=last_matmul:int8,mixed_layers:int8"],
    ),
    "int4, the builder's, blocks of 32": ("int4", ["block_size=32"]),
}
"""Precision and the options of onnxruntime-genai's own builder; None: as the product exports."""
OPENVINO = {"OpenVINO, fp32": "fp32", "OpenVINO, int8": "int8", "OpenVINO, int4": "int4"}


def main(words: list[str]) -> None:
    quiet_libraries()
    spec = tw.load_spec(EXAMPLE, ["model=smollm2-135m"])
    latest = EXAMPLE / "runs" / "latest"
    base = resolve(spec.model, spec.folder)
    tokenizer = TextTokenizer(base.folder)
    task = task_of(spec.task).fitted(tokenizer.encode_verbatim)
    dataset = load_dataset(latest / "split")
    rest = random.Random(0).sample(dataset.train, TICKETS - len(dataset.validation))
    texts = [example.request for example in [*dataset.validation, *rest]]

    def ask(model: NextTokenModel) -> tuple[np.ndarray, np.ndarray]:
        """(label probabilities [tickets, labels], milliseconds [tickets])"""
        scorer = LabelScorer(model, task, base.template, tokenizer)
        scorer.answer(texts[0])
        answers, times = [], []
        for text in texts:
            started = time.perf_counter()
            answers.append(list(scorer.probabilities(scorer.prompts(text)[0]).values()))
            times.append(1000 * (time.perf_counter() - started))
        return np.array(answers), np.array(times)

    merged = latest / "export" / "merged"
    wanted, times = ask(TorchNextToken(load_torch_model(merged)))
    row("torch, float32", wanted, wanted, times, merged)
    for name in (*ONNX, *OPENVINO):
        if not all(word in name for word in words):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder, context = Path(scratch) / "weights", spec.train.max_length
            model: OrtNextToken | PagedNextToken
            if name in ONNX:
                precision, options = ONNX[name]
                if options is None:
                    build_onnx(merged, folder, precision)
                else:
                    run_builder("onnxruntime_genai.models.builder", merged, folder, precision, options)
                model = OrtNextToken(folder, context=context)
            else:
                build_openvino(merged, folder, OPENVINO[name])
                model = PagedNextToken(folder, context=context)
            row(name, wanted, *ask(model), folder)


def row(name: str, wanted: np.ndarray, found: np.ndarray, times: np.ndarray, folder: Path) -> None:
    divergence = (wanted * (np.log(wanted + 1e-12) - np.log(found + 1e-12))).sum(1)
    alike = (wanted.argmax(1) == found.argmax(1)).mean()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    print(
        f"| {name} | {100 * alike:.1f} | {divergence.mean():.4f} | {divergence.max():.2f} | {np.median(times):.0f} "
        f"| {np.quantile(times, 0.95):.0f} | {size:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
