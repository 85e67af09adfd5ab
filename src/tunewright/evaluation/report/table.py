"""The summary of a run on a terminal: the table of predictors, the parity chain, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join, quote
from typing import Any

from tunewright.economics.lifetimes import today
from tunewright.evaluation.verdict.outlived import ended_since

_CHEAPEST = 4
"""How many APIs that nobody measured a terminal shows."""


def candidate_rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The measured candidates, then the API candidates, with their figures as text, for terminal, Markdown and HTML."""
    comparison = data["comparison"]
    second = second_measure(comparison)
    rows = []
    now, *others = comparison["apis"].values()
    for candidate in [*comparison["candidates"].values(), now, comparison["batch"], *others]:
        scores, speed, cost = candidate["scores"], candidate["latency"], candidate["cost"]
        rows.append(
            {
                "key": candidate["key"],
                "label": candidate["label"],
                "primary_metric": [
                    _interval(scores[split]["primary_metric"]) if split in scores else "not measured"
                    for split in comparison["splits"]
                ],
                "second": [
                    _interval(scores[split]["others"][second]) if split in scores else ""
                    for split in comparison["splits"]
                ],
                "p50": _milliseconds(speed["p50_ms"]) if speed else "",
                "p95": _milliseconds(speed["p95_ms"]) if speed else "",
                "per_1000": _dollars(cost["usd_per_1000"]),
                "per_month": _dollars(cost["usd_per_month"]),
            }
        )
    return rows


def second_measure(comparison: dict[str, Any]) -> str:
    """The measure shown beside the primary metric."""
    score = next(iter(comparison["candidates"]["served"]["scores"].values()))
    return str(next(iter(score["others"])))


def print_summary(
    data: dict[str, Any],
    html: Path,
    bundle: Path,
    arguments: Sequence[str],
    ladder: Mapping[str, Any] | None = None,
    page: Path | None = None,
) -> None:
    """Print the table, the parity chain, the verdict and the report's path on standard output.

    Args:
        arguments: those of `tunewright run`, for the command to type next.
        ladder: how the ladder came to this candidate; see `tunewright.ladder.page.plain`.
        page: the page that shows all candidates.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Without markup: labels and advice may have square brackets.
    console = Console(highlight=False, markup=False, width=None if _is_terminal() else 150)
    splits = data["comparison"]["splits"]
    table = Table(title=f"{data['name']}: predictors on the test examples", title_justify="left", header_style="bold")
    table.add_column("predictor", no_wrap=True)
    for split in splits:
        table.add_column(f"{data['comparison']['primary_metric']}\n{split}", justify="right")
    for split in splits:
        table.add_column(f"{second_measure(data['comparison'])}\n{split}", justify="right")
    for column in ("P50 ms", "P95 ms", "$ per\n1,000", "$ per\nmonth"):
        table.add_column(column, justify="right", no_wrap=True)
    rows, dearer = _shown(candidate_rows(data), data["comparison"]["apis"])
    for row in rows:
        style = "bold" if row["key"] == "served" else None
        table.add_row(
            row["label"],
            *row["primary_metric"],
            *row["second"],
            row["p50"],
            row["p95"],
            row["per_1000"],
            row["per_month"],
            style=style,
        )
    if dearer:
        table.add_row(f"{dearer} dearer: see the report", style="dim")
    console.print(table)
    parity = data["parity"]
    chain = " → ".join(
        f"{link['candidate']} {link['primary_metric']:.1%} ({link['agreement']:.1%} alike)" for link in parity["chain"]
    )
    console.print(f"Parity {'✓' if parity['passed'] else '✗'}  {chain}", soft_wrap=True)
    for other in parity.get("elsewhere", ()):
        if not other["why"]:  # engines that were not asked are in the report
            console.print(f"Elsewhere  {other['told']}", soft_wrap=True)
    for sentence in data.get("baseline", {}).get("told", ()):
        console.print(f"API      {sentence}", soft_wrap=True)
    for sentence in data.get("judge", {}).get("told", ()):
        console.print(f"Judge    {sentence}", soft_wrap=True)
    if ladder:
        console.print(_candidates(ladder))
        for sentence in ladder["summary"]:
            console.print(f"- {sentence}", soft_wrap=True)
    verdict = data["verdict"]
    decision = (verdict["decision"], "bold")
    sentence = ladder["sentence"] if ladder else verdict["sentence"]
    console.print(Text.assemble("\nVerdict: ", decision, f". {sentence}"), soft_wrap=True)
    if outlived := ended_since(data, today()):
        console.print(f"! {outlived}", soft_wrap=True)
    if verdict["measure"]:
        command = ["tunewright", "run", *arguments, verdict["measure"]]
        console.print(f"Measure: {join(command)}", soft_wrap=True)
    console.print(f"Report:  {_short(html)}", soft_wrap=True)
    if page:
        console.print(f"All candidates: {_short(page)}", soft_wrap=True)
    if verdict["answers"] == "served":
        console.print(f"Serve:   tunewright serve {quote(_short(bundle))}", soft_wrap=True)


def _candidates(ladder: Mapping[str, Any]) -> Any:
    """The candidates that were tried, in bold the one that the verdict is about."""
    from rich.table import Table

    table = Table(title="candidates, the cheapest first", title_justify="left", header_style="bold")
    table.add_column("candidate")
    for split in ladder["tried"][0]["scores"]:
        table.add_column(split, justify="right")
    for name in ("P95 ms", "$ a month", "minutes"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for each in ladder["tried"]:
        table.add_row(
            each["name"],
            *(_interval(score) for score in each["scores"].values()),
            _milliseconds(each["p95_ms"]),
            _dollars(each["served_usd"]),
            f"{each['minutes']:.1f}",
            each["decision"],
            style="bold" if each["name"] == ladder["best"] else None,
        )
    return table


def _shown(rows: Sequence[dict[str, Any]], apis: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """(the rows that a terminal shows, how many more the report has). Apart from the API paid for today, it shows only
    the cheapest APIs that nobody measured."""
    unmeasured = [
        name
        for name, candidate in list(apis.items())[1:]
        if not candidate["scores"] and not candidate.get("cut_short")  # which a report of an earlier version lacks
    ]
    left_out = set(sorted(unmeasured, key=lambda name: apis[name]["cost"]["usd_per_month"])[_CHEAPEST:])
    return [row for row in rows if row["key"] not in left_out], len(left_out)


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty()


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _interval(interval: dict[str, float]) -> str:
    return f"{100 * interval['value']:.1f} ({100 * interval['low']:.0f}–{100 * interval['high']:.0f})"


def _milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _dollars(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.2f}" if amount >= 0.1 else f"{amount:.4f}"
