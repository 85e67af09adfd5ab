"""`tunewright plan`: what a training would need of each machine, before one is rented."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from tunewright.cli.options import (
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    RunsOption,
    console_of,
    print_json,
)

if TYPE_CHECKING:
    from tunewright.train.plan import Option, Plan


def plan(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    runs: RunsOption = None,
    json: JsonOption = False,
) -> None:
    """Predict memory, hours and dollars of a training on each Azure GPU size. Needs no GPU."""
    from tunewright import api, load_spec

    found = api.plan(load_spec(project, overrides or (), recipe=recipe), runs=runs)
    if json:
        print_json(_plain(found))
    else:
        _print(found)


def _plain(plan: Plan) -> dict[str, object]:
    counted = asdict(plan.footprint)
    return {
        "model": plan.model,
        "tokenizer": plan.batches.tokenizer,
        "tokens_a_batch": round(plan.batches.tokens, 1),
        "longest_example": plan.batches.longest,
        "steps": plan.steps,
        "accumulation": plan.accumulation,
        "bytes": {"peak": plan.footprint.peak, **{k: v for k, v in counted.items() if k not in ("work", "trained")}},
        "trained_parameters": plan.footprint.trained,
        "kv_bytes": plan.kv_bytes,
        "here": asdict(plan.here) if plan.here else None,
        "options": [asdict(option) for option in plan.options],
        "cheapest": plan.cheapest.machine if plan.cheapest else None,
        "sentence": plan.sentence,
    }


def _print(plan: Plan) -> None:
    from rich.table import Table

    from tunewright.assess import price_book
    from tunewright.train.plan import GIB, spoken

    whose = "" if plan.batches.tokenizer == plan.model else f", counted with the tokenizer of {plan.batches.tokenizer}"
    held = plan.footprint
    parts = {
        "weights": held.weights, "adapter": held.adapter, "optimizer": held.optimizer,
        "gradients": held.gradients, "activations": held.activations, "logits": held.logits,
        "backward pass": held.backward,
    }  # fmt: skip
    batches = f"{plan.accumulation} x " if plan.accumulation > 1 else ""
    typer.echo(
        f"{plan.model}, {held.trained / 1e6:.1f} M trained; {plan.steps:,} steps of {batches}"
        f"{plan.batches.tokens:,.0f} tokens (mean){whose}\n"
        "The heaviest batch, GiB: "
        + ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())
        + f"; later, a prompt's key-value cache {plan.kv_bytes / GIB:.2f}\n"
    )
    if here := plan.here:
        several = f", {here.processes} processes" if here.processes > 1 else ""
        typer.echo(
            f"On this machine's CPU, in {here.precision}{several}: {here.peak_gib:.1f} of {here.memory_gib:.1f} GiB of "
            f"memory, about {spoken(here.hours)}\n"
        )
    table = Table(header_style="bold")
    for name in ("size", "GPUs", "GiB", "peak", "", "hours", "USD", ""):
        table.add_column(
            name, justify="right" if name in ("GiB", "peak", "hours", "USD") else "left", no_wrap=bool(name)
        )
    for option in plan.options:
        table.add_row(*_row(option))
    console = console_of(140)
    console.print(table)
    if any(option.fits and option.precision == "float16" for option in plan.options):
        typer.echo("float16: the loss is scaled, and a step in which it overflows is skipped; look at the curve.")
    typer.echo(f"{plan.sentence}\nPrices: {price_book().as_of}, pay as you go. How well this predicts: docs/plan.md")


def _row(option: Option) -> tuple[str, ...]:
    gpus = f"{option.gpus} x {option.card}" if option.gpus > 1 else option.card
    time = (f"{option.hours:.2f}", f"{option.usd:.2f}") if option.fits else ("", "")
    name = option.machine.removeprefix("Standard_")
    return (
        name,
        gpus,
        f"{option.usable_gib:.1f}",
        f"{option.peak_gib:.1f}",
        "✓" if option.fits else "✗",
        *time,
        option.why,
    )
