"""The picture of bench/serve.py's figures: latency over the rate at which requests come, both logarithmic.

python bench/serve_plot.py        # bench/runs/serve/loads.json -> docs/serving.svg
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path

from quality import RUNS

COLOURS = {
    "tunewright serve, openvino, codes": "#0b6bcb",
    "tunewright serve, openvino, words": "#5c9fe0",
    "tunewright serve, onnxruntime, codes": "#2b8a3e",
    "tunewright serve, onnxruntime, words": "#74b816",
    "vLLM, choice": "#b35c00",
    "Hugging Face behind a web server": "#a61e4d",
}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 800, 380, 70, 20, 270, 45
RATES, LATENCIES = (1, 2, 4, 8, 16, 24), (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def along(value: float, ticks: tuple[int, ...]) -> float:
    """Where it lies between the first and the last tick, 0 to 1."""
    low, high = math.log(ticks[0]), math.log(ticks[-1])
    return min(1.05, (math.log(value) - low) / (high - low))


def x(rate: float) -> float:
    return LEFT + along(rate, RATES) * (WIDTH - LEFT - RIGHT)


def y(milliseconds: float) -> float:
    return HEIGHT - BOTTOM - along(milliseconds, LATENCIES) * (HEIGHT - TOP - BOTTOM)


def drawn(loads: list[dict[str, float | str]]) -> str:
    parts = []
    for latency in LATENCIES:
        parts.append(f'<path d="M{LEFT} {y(latency):.1f}H{WIDTH - RIGHT}" stroke="#8884" />')
        parts.append(f'<text x="{LEFT - 8}" y="{y(latency) + 4:.1f}" text-anchor="end">{latency}</text>')
    for rate in RATES:
        parts.append(f'<path d="M{x(rate):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#8884" />')
        parts.append(f'<text x="{x(rate):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{rate}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">requests a second, at fixed times</text>')
    parts.append(
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        "milliseconds until the answer</text>"
    )
    for number, (candidate, colour) in enumerate(COLOURS.items()):
        rows = [row for row in loads if row["candidate"] == candidate and row["load"] == "a second"]
        for key, dash in (("median", ""), ("p95", "4 3")):
            points = " ".join(f"{x(float(row['rate'])):.1f},{y(float(row[key])):.1f}" for row in rows)
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
                f'stroke-dasharray="{dash}" />'
            )
        parts += [
            f'<circle cx="{x(float(row["rate"])):.1f}" cy="{y(float(row["median"])):.1f}" r="3" fill="{colour}" />'
            for row in rows
        ]
        place = TOP + 14 + 20 * number
        parts.append(f'<text x="{WIDTH - RIGHT + 14}" y="{place}" fill="{colour}">{escape(candidate)}</text>')
    place = TOP + 20 + 20 * len(COLOURS)
    parts.append(f'<text x="{WIDTH - RIGHT + 14}" y="{place}">solid: median, dashed: P95</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="#777">{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    found = json.loads((RUNS / "serve" / "loads.json").read_text("utf-8"))
    (Path(__file__).parents[1] / "docs" / "serving.svg").write_text(drawn(found), "utf-8")
