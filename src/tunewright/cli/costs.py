"""What asking APIs would cost, printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tunewright.cli.options import print_json

if TYPE_CHECKING:
    from tunewright.evaluation.api.baseline import CostForecast

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the requests, tokens and cost; call no API.")]


def print_costs(forecasts: Sequence[CostForecast], budget_usd: float, *, json: bool, **more: float) -> None:
    """Print what each API would be asked, and the budget for all of them.

    Args:
        more: what is printed in JSON only.
    """
    if json:
        print_json({"apis": [asdict(each) for each in forecasts], "budget_usd": budget_usd, **more})
        return
    for each in forecasts:
        left = each.questions - each.kept
        reasoning = ", plus its reasoning tokens" if each.reasons else ""
        typer.echo(
            f"{each.api} has {each.questions:,} questions, {each.kept:,} of them answered before. The other {left:,} "
            f"take about {each.prompt_tokens:,} tokens and ${each.usd:,.4f}{reasoning}."
        )
    typer.echo(f"The budget for all APIs together is ${budget_usd:,.2f}.")
