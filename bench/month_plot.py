"""The picture of bench/month.py's figures: accuracy day by day, with the loop and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WITH, WITHOUT, GREY = "#0b6bcb", "#b35c00", "#868e96"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 800, 340, 50, 30, 190, 45
LOWEST = 0.4
SIGNS = {"promoted": ("↑", WITH), "refused": ("×", GREY), "drift alarm": ("▲", "#c92a2a")}
"""What happened on a day, above and below the curves."""


def drawn(days: Sequence[Mapping[str, Any]], change: int) -> str:
    """The SVG.

    Args:
        days: of bench/month.py.
        change: the day after which other queries come.
    """

    def x(day: float) -> float:
        return LEFT + (day - 1) / (len(days) - 1) * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - (max(share, LOWEST) - LOWEST) / (1 - LOWEST) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    for percent in range(int(100 * LOWEST), 101, 10):
        parts.append(_line(LEFT, y(percent / 100), WIDTH - RIGHT, y(percent / 100), "#dee2e6"))
        parts.append(_text(LEFT - 8, y(percent / 100) + 4, f"{percent} %", "end"))
    for day in (1, *range(5, len(days) + 1, 5)):
        parts.append(_text(x(day), HEIGHT - BOTTOM + 18, str(day), "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "day", "middle"))
    parts.append(_line(x(change + 0.5), TOP, x(change + 0.5), HEIGHT - BOTTOM, GREY, "4 4"))
    parts.append(_text(x(change + 0.5) + 6, TOP + 14, "new business begins", "start"))
    for key, colour, label in (("without", WITHOUT, "first model, unchanged"), ("with_loop", WITH, "with Tunewright")):
        shares = [day[key] for day in days]
        points = " ".join(f"{x(n):.1f},{y(share):.1f}" for n, share in enumerate(shares, 1))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(WIDTH - RIGHT + 8, y(shares[-1]) + 4, label, "start", colour))
    above, below = TOP - 8, HEIGHT - BOTTOM - 6
    for day in days:
        for happened, height in ((day["event"], above), ("drift alarm" if day["alarms"] else None, below)):
            if happened:
                parts.append(_text(x(day["number"]), height, SIGNS[happened][0], "middle", SIGNS[happened][1]))
    for (told, (sign, colour)), height in zip(SIGNS.items(), (above, above + 16, below), strict=True):
        parts.append(_text(WIDTH - RIGHT + 8, height, f"{sign} {told}", "start", colour))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" '
        f'font-size="12" role="img" aria-label="Accuracy day by day, with the loop and without">\n{body}\n</svg>\n'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#343a40") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
