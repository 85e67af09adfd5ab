"""The scoreboard's picture: what is right over $ a million answers, a panel a set, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from scoreboard_sets import METRICS, MODELS, DataSet

COLUMNS, WIDE, HIGH = 3, 290, 210
LEFT, RIGHT, TOP, BOTTOM = 40, 14, 24, 34
"""Around the axes within a panel."""
LEGEND = 108
DOLLARS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
STYLES = {"linear": ("#0072b2", "circle"), "all-minilm": ("#d55e00", "square"), "smollm2-135m": ("#009e73", "triangle")}
"""Colour (of Okabe and Ito, which colour-blind people can tell apart) and form of each model."""
DASHES = {"encoder": "7 3", "tuned language model": "2 3", "prompted model": "7 3 2 3"}
"""Of the best published figure of each group."""
API_COLOUR, GREY = "#cc79a7", "#495057"
READING = (
    "Up: the set's primary metric in percent, with a 95 % interval. Right: $ a million answers on a busy machine.",
    "Grey steps: the models that no other one beats in both. Dashes: of published figures the best of each group;",
    "pale ones are of another test or metric, and those outside an axis stand in the tables alone.",
)
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


def drawn(sets: Mapping[str, DataSet], rows: Mapping[str, Mapping[str, Any]], seed: int = 0) -> str:
    """The SVG. Rows without figures, and those measured beside other work, are left out.

    Args:
        rows: by their keys.
    """
    panels = []
    for number, one in enumerate(sets.values()):
        found = [rows[key] for model in MODELS if (key := f"{one.name}/{model}/{seed}") in rows]
        shown = [row for row in found if "reason" not in row and row["quiet"]]
        column, line = number % COLUMNS, number // COLUMNS
        body = "\n".join(_panel(one, shown))
        panels.append(f'<g transform="translate({column * WIDE} {LEGEND + line * HIGH})">\n{body}\n</g>')
    width, height = COLUMNS * WIDE, LEGEND + math.ceil(len(sets) / COLUMNS) * HIGH + 8
    body = "\n".join([f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *_legend(), *panels])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" '
        f'font-size="11" fill="{GREY}" role="img" aria-label="Accuracy over dollars a million answers, set by set">\n'
        f"{body}\n</svg>\n"
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points of cost and worth those that no other one beats in both, the cheapest first."""
    best: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or score > best[-1][1]:
            best.append((cost, score))
    return best


def span(values: Sequence[float]) -> tuple[float, float, float]:
    """(the lower end of an axis in percent, its upper end, the step of its ticks) that holds some values."""
    low, high = min(values), max(values)
    step = next((each for each in STEPS if max(high - low, 0.8) / each <= 4), STEPS[-1])
    floor, ceiling = math.floor(low / step) * step, math.ceil(high / step) * step
    return round(max(0.0, floor), 6), round(min(100.0, ceiling + step / 4), 6), step


def _panel(one: DataSet, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _text(LEFT, 14, f"{one.title}: {METRICS[one.task]}", size=12, colour="#000000")
    right, floor = WIDE - RIGHT, HIGH - BOTTOM
    for usd in DOLLARS[::2]:
        yield f'<path d="M{_x(usd):.1f} {TOP}V{floor}" stroke="#e9ecef"/>'
        yield _text(_x(usd), floor + 16, f"${usd:g}", "end" if usd == DOLLARS[-1] else "middle")
    tests = [row["tests"][row["first"]] for row in rows]
    figures = [each[end] for each in tests for end in ("low", "high")]
    figures += [each.value for each in one.published if each.same]
    if not figures:
        yield f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{floor - TOP}" fill="none" stroke="#e9ecef"/>'
        yield _text((LEFT + right) / 2, (TOP + floor) / 2, "not measured yet", "middle")
        return
    low, high, step = span(figures)

    def y(percent: float) -> float:
        return floor - (percent - low) / (high - low) * (floor - TOP)

    tick = low
    while tick <= high:
        yield f'<path d="M{LEFT} {y(tick):.1f}H{right}" stroke="#e9ecef"/>'
        yield _text(LEFT - 5, y(tick) + 4, f"{tick:g}", "end")
        tick = round(tick + step, 6)
    for group, dashes in DASHES.items():
        found = [each for each in one.published if each.group == group and low <= each.value <= high]
        if found:
            best = max(found, key=lambda each: (each.same, each.value))
            pale = 1.0 if best.same else 0.4
            yield (
                f'<path d="M{LEFT} {y(best.value):.1f}H{right}" stroke="{GREY}" stroke-dasharray="{dashes}" '
                f'opacity="{pale}"/>'
            )
    if rows:
        usd = rows[0]["api"]["usd_per_million"]
        yield f'<path d="M{_x(usd):.1f} {TOP}V{floor}" stroke="{API_COLOUR}" stroke-width="2"/>'
    else:
        yield _text((LEFT + right) / 2, (TOP + floor) / 2, "not measured yet", "middle")
    front = pareto([(row["usd_per_million"], test["value"]) for row, test in zip(rows, tests, strict=True)])
    for number, (usd, value) in enumerate(front):
        until = _x(front[number + 1][0]) if number + 1 < len(front) else right
        up = f"V{y(front[number + 1][1]):.1f}" if number + 1 < len(front) else ""
        path = f"M{_x(usd):.1f} {y(value):.1f}H{until:.1f}{up}"
        yield f'<path d="{path}" stroke="#adb5bd" stroke-width="1.5" fill="none"/>'
    for row, test in zip(rows, tests, strict=True):
        colour, form = STYLES[row["model"]]
        at = _x(row["usd_per_million"])
        yield f'<path d="M{at:.1f} {y(test["low"]):.1f}V{y(test["high"]):.1f}" stroke="{colour}" stroke-width="1.5"/>'
        yield _mark(at, y(test["value"]), form, colour)


def _legend() -> Iterator[str]:
    place = LEFT
    for model, (colour, form) in STYLES.items():
        yield _mark(place, 14, form, colour)
        yield _text(place + 10, 18, model, colour="#000000")
        place += 110
    yield f'<path d="M{place} 20V8" stroke="{API_COLOUR}" stroke-width="2"/>'
    yield _text(place + 10, 18, "price of gpt-6-luna, accuracy not measured")
    place = LEFT
    for group, dashes in DASHES.items():
        yield f'<path d="M{place - 6} 36h30" stroke="{GREY}" stroke-dasharray="{dashes}"/>'
        yield _text(place + 32, 40, f"published: {group}")
        place += 240
    for number, line in enumerate(READING):
        yield _text(LEFT - 6, 60 + 15 * number, line)


def _x(usd: float) -> float:
    low, high = math.log(DOLLARS[0]), math.log(DOLLARS[-1])
    share = (math.log(max(usd, DOLLARS[0])) - low) / (high - low)
    return LEFT + min(1.0, share) * (WIDE - LEFT - RIGHT)


def _mark(x: float, y: float, form: str, colour: str) -> str:
    edge = 'stroke="#ffffff"'
    if form == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}" {edge}/>'
    if form == "square":
        return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" fill="{colour}" {edge}/>'
    return f'<path d="M{x:.1f} {y - 6:.1f}l6 10.5h-12z" fill="{colour}" {edge}/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 11, colour: str = GREY) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
    )
