"""The pictures of bench/economics.py and bench/million.py: dollars over requests a month, both logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 800, 560, 100, 16, 185, 58
VOLUMES = {1e4: "10,000", 1e5: "100,000", 1e6: "1 million", 1e7: "10 million", 1e8: "100 million"}
APART = 19
"""Between two labels."""


@dataclass(frozen=True)
class Line:
    label: str
    colour: str
    points: Sequence[tuple[float, float]]
    """(requests a month, dollars)."""
    dashed: bool = False


@dataclass(frozen=True)
class Axes:
    """What a picture shows."""

    title: str
    """For those who can't see it."""
    requests: str
    """What a month's requests are called."""
    lowest: float
    """The dollars of the lowest line, a power of ten."""
    decades: int

    @property
    def dollars(self) -> dict[float, str]:
        """The lines, and how each is labelled."""
        return {usd: f"${usd:,.10g}" for usd in (self.lowest * 10.0**n for n in range(self.decades + 1))}

    def y(self, dollars: float) -> float:
        share = math.log10(dollars / self.lowest) / self.decades
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def inside(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """The points within the picture; a line that leaves it is cut where it does."""
        highest = self.lowest * 10.0**self.decades
        kept = [(volume, usd) for volume, usd in points if min(VOLUMES) <= volume <= max(VOLUMES) * 1.0001]
        return [(volume, usd) for volume, usd in kept if self.lowest <= usd <= highest]


def x(volume: float) -> float:
    low, high = math.log(min(VOLUMES)), math.log(max(VOLUMES))
    return LEFT + (math.log(volume) - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def drawn(axes: Axes, lines: Sequence[Line], marks: Sequence[tuple[float, float, str]] = ()) -> str:
    """The SVG.

    Args:
        marks: (requests, dollars, what it is) of single points.
    """
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    for dollars, label in axes.dollars.items():
        parts.append(f'<path d="M{LEFT} {axes.y(dollars):.1f}H{WIDTH - RIGHT}" stroke="#dee2e6"/>')
        parts.append(_text(LEFT - 8, axes.y(dollars) + 5, label, "end"))
    for volume, label in VOLUMES.items():
        parts.append(f'<path d="M{x(volume):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#dee2e6"/>')
        parts.append(_text(x(volume), HEIGHT - BOTTOM + 23, label, "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, f"{axes.requests} a month", "middle"))
    for line in lines:
        inside = [(x(volume), axes.y(usd)) for volume, usd in axes.inside(line.points)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in inside)
        dashes = ' stroke-dasharray="6 4"' if line.dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dashes}/>')
    parts += _labels(axes, lines)
    for number, (volume, usd, label) in enumerate(marks):
        letter, legend = "ABCDEF"[number], TOP + 24 + 24 * number
        for a, b in ((x(volume), axes.y(usd)), (LEFT + 24, legend)):
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="9" fill="#000000"/>')
            parts.append(
                f'<text x="{a:.1f}" y="{b + 4:.1f}" text-anchor="middle" font-size="12" fill="#ffffff">{letter}</text>'
            )
        parts.append(_text(LEFT + 40, legend + 5, label, "start", "#000000"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" '
        f'font-size="15" role="img" aria-label="{escape(axes.title)}">\n{body}\n</svg>\n'
    )


def _labels(axes: Axes, lines: Sequence[Line]) -> list[str]:
    """A label for each line at the right edge, beside its end, moved apart where they would lie on each other."""
    ends = {line.label: axes.y(axes.inside(line.points)[-1][1]) for line in lines}
    order = sorted(lines, key=lambda line: ends[line.label])
    places = [ends[line.label] for line in order]
    for _ in range(200):
        for number in range(1, len(places)):
            overlap = APART - (places[number] - places[number - 1])
            if overlap > 0:
                places[number - 1] -= overlap / 2
                places[number] += overlap / 2
        places[0] = max(places[0], TOP + 4)
    edge = WIDTH - RIGHT
    made = []
    for line, place in zip(order, places, strict=True):
        start = x(axes.inside(line.points)[-1][0])
        made.append(f'<path d="M{start:.1f} {ends[line.label]:.1f}L{edge + 10} {place:.1f}" stroke="{line.colour}"/>')
        made.append(_text(edge + 14, place + 5, line.label, "start", line.colour))
    return made


def _text(x1: float, y1: float, text: str, anchor: str, colour: str = "#343a40") -> str:
    return f'<text x="{x1:.1f}" y="{y1:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
