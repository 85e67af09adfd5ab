"""`tunewright data curve`: how much more data would help."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from tunewright.cli.options import (
    AllowCodeOption,
    JsonOption,
    OverridesArgument,
    ProjectArgument,
    RunsOption,
    console_of,
    print_json,
)

if TYPE_CHECKING:
    from tunewright.data.curve.learning_curve import LearningCurve

WIDTH = 40


def curve(
    project: ProjectArgument,
    overrides: OverridesArgument = None,
    runs: RunsOption = None,
    json: JsonOption = False,
    allow_code: AllowCodeOption = False,
) -> None:
    """Estimate with a cheap model, within a minute, how much more training data would help."""
    from tunewright import api, load_spec
    from tunewright.data.curve.learning_curve import learning_curve, require_one_label
    from tunewright.data.dataset import load_examples

    spec = load_spec(project, overrides or (), allow_code=allow_code)
    require_one_label(spec)
    examples = load_examples(api.check(spec, runs=runs) / "examples" / "train.jsonl")
    result = learning_curve(examples, spec.seed)
    if json:
        print_json(asdict(result))
        return
    if result.points:
        print_curve(result)
    typer.echo(result.sentence)


def print_curve(curve: LearningCurve) -> None:
    """Print the curve as a table with one bar per size; the light part of a bar is its 90 % interval."""
    from rich.table import Table

    measured = [(f"{point.rows:,}", point.accuracy, "measured") for point in curve.points]
    further = [(f"{later.rows:,}", later.accuracy, f"{later.factor} x the data") for later in curve.forecasts]
    now = [(f"{curve.rows:,}", curve.now, "all rows")] if curve.now else []
    lines = [*measured, *now, *further]
    start = min(accuracy.low for _, accuracy, _ in lines)
    table = Table(title=f"Linear SVM, {curve.labels} labels", title_justify="left", header_style="bold", box=None)
    for name in ("rows", "accuracy %", "90 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for rows, accuracy, kind in lines:
        low, high = (round(WIDTH * (end - start) / max(1 - start, 1e-9)) for end in (accuracy.low, accuracy.high))
        table.add_row(
            rows,
            f"{100 * accuracy.value:.1f}",
            f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}",
            "█" * low + "░" * max(high - low, 1),
            kind,
        )
    console = console_of(100)
    console.print(table)
