"""The GPU self-test: all its rows, and the comparison of merged weights and of vLLM with the CPU."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError, as_user_error
from tunewright.core.progress import quiet_libraries, say
from tunewright.doctor.report import GpuReport, GpuRow, machine
from tunewright.doctor.steps import step_rows
from tunewright.doctor.tiny import ARCHITECTURES, make_model, make_rows, make_spec
from tunewright.inference.runtimes.base import best_runtime
from tunewright.inference.runtimes.torch_model import load_torch_model
from tunewright.models.device import has_bfloat16, require_gpu
from tunewright.pipeline.runner import execute_step
from tunewright.pipeline.steps import STEPS

_MERGED = 0.02
"""The share by which a merged model's loss may differ from that of its base with the adapter: 16 bits round each
weight, and an adapter from 4-bit training meets other weights."""
_LEFT_BYTES = 2**20
"""Bytes that may still be allocated when all models are freed."""


def run_selftest(device: str = "cuda", only: Sequence[str] = (), types: Sequence[str] = ()) -> GpuReport:
    """Run every code path of a model on a device.

    Args:
        device: "cuda", or "cpu" to test the self-test itself.
        only: these architectures; by default all that can be exported.
        types: the number formats of the computation; by default those of the device.

    Raises:
        UserError: there is no GPU, or torch can't use it.
    """
    import torch

    quiet_libraries()
    started = time.monotonic()
    if device == "cuda":
        require_gpu()
        if not torch.cuda.is_available():
            raise UserError(
                "There is no GPU to test.",
                why="Neither torch nor nvidia-smi finds one.",
                fix="Run the test on a machine with a GPU. `tunewright doctor` checks this machine without one.",
            )
    types = types or _types(device)
    rows: list[GpuRow] = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in _rows(device, only or tuple(ARCHITECTURES), types, Path(scratch)):
            say(f"  {'✓' if row.passed else '–' if row.passed is None else '✗'} {row.name}: {row.found}")
            rows.append(row)
    return GpuReport(machine(device), rows, time.monotonic() - started)


def _types(device: str) -> tuple[str, ...]:
    if device == "cpu":
        return ("float32", "bfloat16")
    return ("float16", "bfloat16") if has_bfloat16() else ("float16",)


def _rows(device: str, names: Sequence[str], types: Sequence[str], scratch: Path) -> Iterator[GpuRow]:
    for name in names:
        folder = scratch / name
        folder.mkdir()
        make_model(name, folder)
        if name == "gemma3_text" and best_runtime(folder) != "openvino":
            continue
        before = held_bytes(device)
        yield from _caught(f"{name}, training step", lambda: step_rows(name, folder, device, types))  # noqa: B023
        yield from _caught(f"{name}, training", lambda: _trained(name, folder, device, types))  # noqa: B023
        yield _freed(name, device, before)
    yield from _caught("vLLM", lambda: _vllm(scratch, names[0]))


def _caught(name: str, rows: Callable[[], Iterator[GpuRow]]) -> Iterator[GpuRow]:
    """The rows, and a failed row for an error that ends them."""
    try:
        yield from rows()
    except Exception as error:  # noqa: BLE001 (the test looks for any error)
        known = as_user_error(error, Path(tempfile.gettempdir()))
        message = known.paragraph() if known else f"{type(error).__name__}: {error}"
        yield GpuRow(name, False, " ".join(message.split())[:300])


def _trained(name: str, model: Path, device: str, types: Sequence[str]) -> Iterator[GpuRow]:
    """The steps of a run in this process: training with TRL in each number format, merge and export."""
    folder = model.parent / f"{name}-run"
    folder.mkdir()
    outputs: dict[str, Path] = {}

    def run(step: str, precision: str = types[-1]) -> Mapping[str, Any]:
        spec = make_spec(model, folder, precision=precision)
        outputs[step] = folder / f"{step}-{precision}"
        inputs = {each: outputs[each] for each in STEPS[step].inputs_of(spec)}
        execute_step(STEPS[step], spec, inputs, outputs[step])
        result: Mapping[str, Any] = json.loads((outputs[step] / "manifest.json").read_text("utf-8"))["result"]
        return result

    for step in ("check", "split"):
        run(step)
    for precision in types:
        train = run("train", precision)
        figures = f"{train['steps']} steps, loss {train['first_loss']} → {train['last_loss']}"
        left_out = train["left_out"]
        fast = not left_out and train["steps"] == make_spec(model, folder).train.max_steps
        missing = f", without {left_out}" if left_out else ""
        yield GpuRow(f"{name}, NF4 training, {precision}", fast, figures + missing)
    export = run("export")
    yield GpuRow(f"{name}, export", True, f"a bundle of {export['bundle_mb']} MB, temperature {export['temperature']}")
    yield _merged(name, model, outputs, device, "float32" if device == "cpu" else types[-1])


def _merged(name: str, model: Path, outputs: Mapping[str, Path], device: str, dtype: str) -> GpuRow:
    """Compare the merged weights on the device with the base and its adapter on the CPU."""
    from peft import PeftModel

    rows = make_rows(250, 100, 20, 30, 40, 50)
    unmerged = PeftModel.from_pretrained(
        load_torch_model(model, dtype="float32", device="cpu"), str(outputs["train"] / "adapter")
    )
    merged = load_torch_model(outputs["export"] / "merged", dtype=dtype, device=device)
    expected, loss = _loss(unmerged, rows), _loss(merged, rows)
    return GpuRow(
        f"{name}, merged, {dtype}", abs(loss / expected - 1) < _MERGED, f"loss {loss:.3f}, CPU {expected:.3f}"
    )


def _loss(model: Any, rows: Sequence[Any]) -> float:
    import torch

    total = 0.0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row["input_ids"]], device=model.device)
            labels = torch.tensor(row["labels"], device=model.device)
            logits = model.eval()(input_ids=ids).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum"))
    return total


def _freed(name: str, device: str, before: int) -> GpuRow:
    left = held_bytes(device) - before
    return GpuRow(f"{name}, memory freed", left <= _LEFT_BYTES, f"{max(0, left) / 2**20:.1f} MiB are left")


def held_bytes(device: str) -> int:
    """The bytes of all tensors on a device."""
    import torch

    gc.collect()
    if device == "cuda":
        torch._C._cuda_clearCublasWorkspaces()  # cuBLAS keeps 8 to 32 MiB for its next product
        torch.cuda.empty_cache()
        return int(torch.cuda.memory_allocated())
    storages: dict[int, int] = {}
    for each in gc.get_objects():
        if issubclass(type(each), torch.Tensor) and each.device.type == "cpu" and type(each).__name__ != "FakeTensor":
            storage = each.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _vllm(scratch: Path, name: str) -> Iterator[GpuRow]:
    """Test that vLLM starts on a GPU whose memory torch has just used, and agrees with torch."""
    from importlib.util import find_spec
    from os import environ

    from tunewright.inference.runtimes.vllm_model import PYTHON, VllmModel

    if not (environ.get(PYTHON) or find_spec("vllm")):
        yield GpuRow("vLLM", None, f"not installed; {PYTHON} names a Python that has it")
        return
    merged = next((scratch / f"{name}-run").glob("export-*/merged"), None)
    if merged is None:
        yield GpuRow("vLLM", None, f"{name} was not exported")
        return
    import numpy as np

    from tunewright.inference.runtimes.torch_model import TorchNextToken

    started = time.monotonic()
    served = VllmModel(merged, context=256)
    seconds = time.monotonic() - started
    try:
        ids, tokens = make_rows(250, 40, 10)[0]["input_ids"], [5, 9, 70, 200]
        (measured,) = served.of_tokens([(ids, tokens)])
    finally:
        served.close()
    logits = TorchNextToken(load_torch_model(merged, dtype="float32", device="cpu"))(ids)[tokens].astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum())
    error = float(np.abs(measured - expected).max())
    yield GpuRow("vLLM", error < 0.1, f"started in {seconds:.0f} s; log-probabilities within {error:.3f} of torch's")
