"""How fast a file is answered by one worker and by two, here and on Ray, and what a million lines cost.

    python bench/batch.py BUNDLE [lines [rounds]]       # 1,000 lines of BANKING77, one round, by default

Workers are confined to so many cores; the time is that of the whole command, its start and the loading of the model
included. The ways take turns in each round, and the median of the rounds counts. The bytes must be the same each time.
Dollars: at the hourly price of the price book's machines with two cores, all of whose time is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from quality import SHARED, in_words

from tunewright.economics import price_book
from tunewright.inference.bundle import read_info

MACHINES = ("Standard_D2s_v5", "container-apps-2-4")
WAYS: tuple[tuple[str, set[int], int], ...] = (
    ("one worker", {0}, 0),
    ("two workers", {0, 1}, 0),
    ("Ray, two workers", {0, 1}, 2),
)
"""(name, the cores that it has, workers of a Ray cluster on this machine; 0: none is used)."""


def answered(bundle: Path, source: Path, target: Path, cores: set[int], ray: int) -> tuple[float, str]:
    """Seconds, and a hash of the output.

    Args:
        ray: workers of a Ray cluster on this machine; 0: none is used.
    """
    environment = os.environ | ({"RAY_ADDRESS": "local"} if ray else {})
    command = [sys.executable, "-m", "tunewright", "batch", str(bundle), str(source), str(target)]
    began = time.perf_counter()
    subprocess.run(
        command, check=True, capture_output=True, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    return time.perf_counter() - began, hashlib.sha256(target.read_bytes()).hexdigest()


def main(bundle: Path, lines: int, rounds: int) -> None:
    prices = price_book().machines
    rows = in_words(SHARED / "banking77" / "test.jsonl")[:lines]
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in WAYS}
    contents = set()
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "in.jsonl", Path(scratch) / "out.jsonl"
        source.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows), "utf-8")
        for number in range(1, rounds + 1):
            for name, cores, ray in WAYS:
                taken, content = answered(bundle, source, target, cores, ray)
                target.unlink()
                contents.add(content)
                seconds[name].append(taken)
                print(f"round {number}, {name}: {len(rows) / taken:.1f} lines a second", flush=True)
    alone = median(seconds[WAYS[0][0]])
    for name, cores, _ in WAYS:
        taken = median(seconds[name])
        hours = 1e6 / (len(rows) / taken) / 3600
        costs = [f"${hours * prices[machine].usd_per_hour:.2f} a million on {machine}" for machine in MACHINES]
        figures = [
            f"{read_info(bundle).runtime}, {name}: {len(rows) / taken:.1f} lines a second",
            f"{alone / taken:.2f} x",
        ]
        print(*figures, *(costs if len(cores) > 1 else ()), sep=", ")
    print("the same bytes each time" if len(contents) == 1 else "OTHER BYTES")


if __name__ == "__main__":
    lines, rounds = ([int(each) for each in sys.argv[2:]] + [1000, 1][len(sys.argv) - 2 :])[:2]
    main(Path(sys.argv[1]), lines, rounds)
