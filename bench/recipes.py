"""What the recipes are predicted to need: the lines of their headers.

    python bench/recipes.py [--write]

Peak: of a batch of the recipe's size whose examples are all as long as `train.max_length` allows and share nothing, so
that the recipe fits its card whatever the data. A seventh of what tensors can take stays free (MARGIN), for what is not
counted. Of the settings that fit, a recipe has the quickest for REFERENCE whose step is 16 examples: with or without
checkpointing, in as few passes as may be.

Time and price: the steps of REFERENCE, a classification with one prompt, over the two epochs of the schema; `plan`
adds the start and the measuring.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import tunewright
from tunewright.config import parse_spec
from tunewright.config.recipes import recipe_names, recipe_text
from tunewright.config.schema import Spec
from tunewright.core.progress import quiet_libraries
from tunewright.economics import price_book
from tunewright.economics.speed import seconds
from tunewright.models.catalogue import catalogue
from tunewright.training.loop.trainer import planned_steps
from tunewright.training.planning.cpu import held
from tunewright.training.planning.footprint import footprint
from tunewright.training.planning.plan import GIB, PARALLEL, usable_gib

EXAMPLES, SHARED, OWN = 10_000, 300, 100
"""REFERENCE: examples, and tokens of each that are the same for all and its own."""
MARGIN = 1 / 7
MARK = "# Predicted "
_SPEC = """
name: reference
task: {kind: classify, instruction: x, labels: [a, b]}
data: {train: none}
"""


def spec_of(recipe: str) -> Spec:
    """A recipe over the smallest spec."""
    return parse_spec(_SPEC, Path("tunewright.yaml"), recipe=recipe)


def rows(count: int, shared: int, own: int) -> list[dict[str, Any]]:
    """Examples of `shared` tokens that are the same for all and `own` that are not; the last two are learnt."""
    ids = [[*range(shared), *([shared + number] * own)] for number in range(count)]
    return [{"input_ids": each, "labels": [-100] * (len(each) - 2) + each[-2:]} for each in ids]


def predicted(recipe: str) -> str:
    """The line of a recipe's header."""
    spec = spec_of(recipe)
    size = re.search(r"Standard_\w+", recipe_text(recipe).splitlines()[0])
    entry = catalogue()[spec.model]
    assert entry.shape
    config, settings = entry.shape.config(entry.context), spec.train
    batch = f"batches of {settings.batch_size} x {settings.max_length:,} tokens that share nothing"
    worst = rows(settings.batch_size, 0, settings.max_length)
    if size is None:
        counted = footprint(config, settings, worst, "float32", on_cpu=True)
        peak = held(counted) / GIB
        return f"{MARK}(python bench/recipes.py): at most {peak:.1f} GiB of memory in float32, {batch}."
    machine = price_book().machine(size[0])
    assert machine.gpu
    card = price_book().cards[machine.gpu.card]
    counted = footprint(config, settings, worst, "bfloat16")
    peak = (counted.sharded(machine.gpu.count) if "fsdp" in recipe else counted.peak) / GIB
    usual = footprint(config, settings, rows(settings.batch_size, SHARED, OWN), "bfloat16")
    passes = planned_steps(spec, EXAMPLES) * settings.gradient_accumulation_steps
    speed = machine.gpu.count * PARALLEL if machine.gpu.count > 1 else 1
    hours = passes * seconds(usual.work, card, machine.gpu) / speed / 3600
    return (
        f"{MARK}(python bench/recipes.py): at most {peak:.1f} of {usable_gib(machine.gpu, card):.1f} GiB, {batch};\n"
        f"# {EXAMPLES:,} examples of {SHARED} shared and {OWN} own tokens, two epochs: {60 * hours:.0f} min, "
        f"${hours * machine.usd_per_hour:.2f}."
    )


def main() -> None:
    quiet_libraries()
    folder = Path(tunewright.__file__).parent / "recipes"
    for name in recipe_names():
        line = predicted(name)
        print(f"{name}\n{line}", flush=True)
        if "--write" in sys.argv:
            text = re.sub(rf"{re.escape(MARK)}[^\n]*\n(# \d[^\n]*\n)?", line + "\n", recipe_text(name))
            (folder / f"{name}.yaml").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
