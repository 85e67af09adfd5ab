"""Check one by one what a run needs: Python, memory, disk, extras, spec, data, prices and base model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunewright.config import Spec, load_spec
from tunewright.core.errors import EXTRA_OF, Check, UserError
from tunewright.core.processes import machine_memory
from tunewright.data.steps import raw_files
from tunewright.economics import price_book
from tunewright.economics.candidates import check_prices
from tunewright.economics.lifetimes import today
from tunewright.inference.runtimes.vnni.library import kernels_say
from tunewright.models.catalogue import catalogue
from tunewright.models.device import nvidia_gpus
from tunewright.models.fetch import cache_folder, require_pip
from tunewright.models.naming import cached_folder
from tunewright.models.resolve import locate
from tunewright.models.sizes import sizes_of
from tunewright.pipeline.planning.machines import this_machine
from tunewright.pipeline.planning.preflight import disk_checks, memory_checks
from tunewright.pipeline.steps import steps_to
from tunewright.project import Project
from tunewright.tasks import task_of
from tunewright.training.capabilities import require_able

GB = 1e9
NEEDED_MEMORY, NEEDED_DISK = 4 * GB, 3 * GB
_EXTRAS: dict[str, Sequence[str]] = {
    "train": ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "gguf", "onnx"),
    "serve": EXTRA_OF["serve"],
}


def examine(project: Path | None, *, allow_code: bool = False) -> list[Check]:
    """All checks, in the order in which a run would meet the faults.

    Args:
        allow_code: as in `tunewright.load_spec`.
    """
    tracking = _needed({"mlflow": os.environ.get("MLFLOW_TRACKING_URI")})
    return [*_machine(), *_extras(_EXTRAS | tracking), *_project(project, allow_code)]


def _machine() -> Iterator[Check]:
    version = sys.version.split()[0]
    yield Check("Python", sys.version_info >= (3, 11), version, "Install Python 3.11 or newer.")
    memory = machine_memory()
    yield Check(
        "memory",
        memory >= NEEDED_MEMORY,
        f"{memory / GB:.1f} GB, {os.cpu_count()} cores",
        f"Training SmolLM2-135M needs about {NEEDED_MEMORY / GB:.0f} GB.",
    )
    cache = cache_folder()
    present = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(present).free
    yield Check(
        "disk",
        free >= NEEDED_DISK,
        f"{free / GB:.1f} GB free at {cache}",
        f"Free {NEEDED_DISK / GB:.0f} GB, or set TUNEWRIGHT_CACHE to another disk.",
    )
    writable = os.access(present, os.W_OK)
    yield Check(
        "model cache",
        writable,
        f"{cache} {'is writable' if writable else 'is not writable'}",
        "Set TUNEWRIGHT_CACHE to a folder that you may write to.",
    )
    yield _gpu()
    yield Check("kernels", True, kernels_say())


def _gpu() -> Check:
    # Importing torch takes a second, which is wasted without NVIDIA's driver.
    if shutil.which("nvidia-smi") is None and not nvidia_gpus():
        return Check("GPU", True, "none, so training runs on the CPU")
    if importlib.util.find_spec("torch") is None:
        return Check("GPU", True, "NVIDIA's driver is installed, but torch is not")
    import torch

    if not torch.cuda.is_available():
        return Check(
            "GPU",
            False,
            f"NVIDIA's driver is installed, but torch {torch.__version__} finds no GPU",
            "Run nvidia-smi. If it lists a GPU, install a torch built for the driver's CUDA (pytorch.org/get-started).",
        )
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Check("GPU", True, f"{', '.join(names)}; `tunewright doctor --gpu` tests it")


def _needed(reasons: Mapping[str, object]) -> dict[str, Sequence[str]]:
    """The modules of the extras that have a reason to be installed."""
    return {extra: EXTRA_OF[extra] for extra, reason in reasons.items() if reason}


def _extras(needed: Mapping[str, Sequence[str]]) -> Iterator[Check]:
    for extra, modules in needed.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        found = f"missing: {', '.join(missing)}" if missing else _version(modules[-1])
        yield Check(f"extra [{extra}]", not missing, found, f"Type: pip install 'tunewright[{extra}]'")


def _version(module: str) -> str:
    """The distributions that an installed module comes from, with their versions."""
    named = module.replace("_", "-")
    try:
        return f"{named} {importlib.metadata.version(named)}"
    except importlib.metadata.PackageNotFoundError:
        # A module's distribution may have another name, as mlflow's has: mlflow-skinny.
        others = sorted(set(importlib.metadata.packages_distributions().get(module, ())))
        return ", ".join(f"{each} {importlib.metadata.version(each)}" for each in others) or "installed"


def _project(project: Path | None, allow_code: bool) -> Iterator[Check]:
    if project is None:
        yield _model("smollm2-135m", Path.cwd())
        return
    try:
        spec = load_spec(project, allow_code=allow_code)
    except UserError as error:
        yield Check("spec", False, error.paragraph(), "Fix the spec, then run the doctor again.")
        return
    yield Check("spec", True, f"{spec.name}: {spec.task.kind}, {task_of(spec.task).summary}")
    yield from _extras(_needed({"documents": spec.data.document, "api": spec.judge or spec.asked_apis}))
    yield _data(spec)
    prices = _prices(spec)
    yield prices
    yield _able(spec) or _model(spec.model, spec.folder)
    sizes = sizes_of(spec.model, spec.folder)
    if sizes is not None:
        here, steps = this_machine(), steps_to(spec, "bundle")
        if prices.passed:  # its remedies name machines of the price book
            yield from memory_checks(spec, sizes, steps, lambda _: here)
        yield from disk_checks(spec, sizes, steps, Project(spec.folder).runs)


def _failed(name: str, error: UserError) -> Check:
    """The row of an error."""
    found = f"{error.where}: {error.what}" if error.where else error.what
    return Check(name, False, found, " ".join(filter(None, (error.why, error.fix))))


def _data(spec: Spec) -> Check:
    try:
        count = sum(map(len, raw_files(spec).values()))
    except UserError as error:
        return _failed("data files", error)
    return Check("data files", True, f"{count} files")


def _prices(spec: Spec) -> Check:
    try:
        book = price_book(spec.price_file)
        check_prices(spec, book, today())
    except UserError as error:
        return _failed("prices", error)
    return Check("prices", True, f"machines of {book.as_of}, APIs of {book.apis_as_of}")


def _able(spec: Spec) -> Check | None:
    """A failed check if the base model can't do what the spec asks for; else None."""
    try:
        require_able(spec)
    except UserError as error:
        return _failed("base model", error)
    return None


def _model(model: str, anchor: Path) -> Check:
    folder = cached_folder(model)
    if folder:
        return Check("base model", True, f"{model} in {folder}")
    try:
        place = locate(model, anchor)
        if (entry := catalogue().get(model)) and entry.wheel:
            require_pip()
    except UserError as error:
        return _failed("base model", error)
    return Check("base model", True, f"{model}: {place}")
