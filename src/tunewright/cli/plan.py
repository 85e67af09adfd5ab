"""`tunewright plan`: predict the memory, time and price of every step before anything runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RecipeOption,
    RunsOption,
    console_of,
    print_json,
)

if TYPE_CHECKING:
    from rich.table import Table

    from tunewright.pipeline.planning.project import ProjectPlan
    from tunewright.pipeline.planning.steps import StepPlan, StepsPlan
    from tunewright.training.planning.plan import Option, Plan


def plan(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    recipe: RecipeOption = None,
    runs: RunsOption = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Predict memory, hours and dollars of every step, here and in Azure, and of training on each GPU size."""
    from tunewright import api, load_spec

    result = api.plan(load_spec(project, overrides or (), recipe=recipe, allow_code=allow_code), runs=runs)
    if json:
        print_json(_plain(result))
    else:
        _print(result)


def _plain(project_plan: ProjectPlan) -> dict[str, object]:
    plan = project_plan.training
    footprint = asdict(plan.footprint)
    return {
        "model": plan.model,
        "tokenizer": plan.batches.tokenizer,
        "tokens_a_batch": round(plan.batches.tokens, 1),
        "longest_example": plan.batches.longest,
        "steps": plan.steps,
        "gradient_accumulation_steps": plan.gradient_accumulation_steps,
        "bytes": {"peak": plan.footprint.peak, **{k: v for k, v in footprint.items() if k not in ("work", "trained")}},
        "trained_parameters": plan.footprint.trained,
        "kv_bytes": plan.kv_bytes,
        "here": asdict(plan.here) if plan.here else None,
        "options": [asdict(option) for option in plan.options],
        "cheapest": plan.cheapest.machine if plan.cheapest else None,
        "sentence": plan.sentence,
        "all_steps": {"here": _plain_steps(project_plan.here), "azure": _plain_steps(project_plan.azure)},
        "all_steps_sentence": project_plan.sentence,
        "as_of": project_plan.as_of,
    }


def _plain_steps(plan: StepsPlan) -> dict[str, object]:
    return {
        "steps": [asdict(each) for each in plan.steps],
        "hours": asdict(plan.hours),
        "usd": asdict(plan.usd),
    }


def _print(project_plan: ProjectPlan) -> None:
    console = console_of(120)
    _print_training(project_plan.training)
    console.print(_options(project_plan.training))
    if any(option.fits and option.precision == "float16" for option in project_plan.training.options):
        typer.echo("float16: the loss is scaled, and steps whose loss overflows are skipped; look at the curve.")
    typer.echo(f"{project_plan.training.sentence}\n\nEvery step, here and in Azure:")
    console.print(_steps(project_plan))
    for plan in (project_plan.here, project_plan.azure):
        for each in plan.misfits:
            typer.echo(f"✗ {each.step} on {each.machine}: {each.memory.summary}; {each.why}")
    typer.echo(
        f"{project_plan.sentence}\nPrices: {project_plan.as_of}, pay as you go. How well this predicts: docs/plan.md"
    )


def _print_training(plan: Plan) -> None:
    from tunewright.economics.memory import GIB
    from tunewright.training.planning.plan import spoken

    counted = (
        "" if plan.batches.tokenizer == plan.model else f", counted with the tokenizer of {plan.batches.tokenizer}"
    )
    footprint = plan.footprint
    parts = {
        "weights": footprint.weights,
        "adapter": footprint.adapter,
        "optimizer": footprint.optimizer,
        "gradients": footprint.gradients,
        "activations": footprint.activations,
        "logits": footprint.logits,
        "backward pass": footprint.backward,
    }
    cache = f"; in serving, a prompt's key-value cache {plan.kv_bytes / GIB:.2f}" if plan.kv_bytes else ""
    batches = f"{plan.gradient_accumulation_steps} x " if plan.gradient_accumulation_steps > 1 else ""
    typer.echo(
        f"{plan.model}, {footprint.trained / 1e6:.1f} M trained; {plan.steps:,} steps of {batches}"
        f"{plan.batches.tokens:,.0f} tokens (mean){counted}\n"
        "The heaviest batch, GiB: "
        + ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items() if footprint.adapter or size)
        + f"{cache}\n"
    )
    if here := plan.here:
        several = f", {here.processes} processes" if here.processes > 1 else ""
        typer.echo(
            f"On this machine's CPU, in {here.precision}{several}: {here.peak_gib:.1f} of {here.memory_gib:.1f} GiB of "
            f"memory, {spoken(here.hours)} if nothing else runs\n"
        )


def _table(columns: dict[str, str]) -> Table:
    """An empty table of narrow columns. `columns` maps each heading to left, right, or wrap for long text."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for name, kind in columns.items():
        table.add_column(name, justify="right" if kind == "right" else "left", no_wrap=kind != "wrap")
    return table


def _options(plan: Plan) -> Table:
    table = _table(
        {
            "training on": "left",
            "GPUs": "left",
            "GiB": "right",
            "peak": "right",
            "": "left",
            "hours": "right",
            "USD": "right",
            "why": "wrap",
        }
    )
    for option in plan.options:
        table.add_row(*_row(option))
    return table


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


def _steps(project_plan: ProjectPlan) -> Table:
    """A row per step and one of totals, 80 characters wide."""
    table = _table(
        {
            "step": "left",
            "here, GiB": "right",
            "time": "right",
            "in Azure on": "left",
            "GiB": "right",
            "time ": "right",
            "USD": "right",
        }
    )
    for here, azure in zip(project_plan.here.steps, project_plan.azure.steps, strict=True):
        name = azure.machine.removeprefix("Standard_")
        table.add_row(here.step, *_cells(here), name, *_cells(azure), _usd(azure) if azure.fits else "")
    table.add_section()
    largest = max(each.memory.peak_gib for each in project_plan.here.steps)
    in_azure = project_plan.azure
    table.add_row(
        "all",
        f"{largest:.1f}",
        "" if project_plan.here.misfits else _time(project_plan.here),
        "",
        "",
        *(("", "") if in_azure.misfits else (_time(in_azure), _usd(in_azure))),
        style="bold",
    )
    return table


def _cells(plan: StepPlan) -> tuple[str, str]:
    """(needed and available memory, time)."""
    available = "" if plan.memory.usable_gib is None else f"/{plan.memory.usable_gib:.1f}"
    return f"{'' if plan.fits else '✗ '}{plan.memory.peak_gib:.1f}{available}", _time(plan) if plan.fits else ""


def _time(plan: StepPlan | StepsPlan) -> str:
    """The hours in short form, such as 38m–2.4h."""
    from tunewright.training.planning.plan import spoken

    if plan.hours is None:
        return "?"
    text = spoken(plan.hours).replace("less than a minute", "<1m")
    return text.replace(" to ", "–").replace(" min", "m").replace(" h", "h")


def _usd(plan: StepPlan | StepsPlan) -> str:
    return f"{plan.usd.low:.2f}–{plan.usd.high:.2f}" if plan.usd.high else ""
