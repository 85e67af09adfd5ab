"""How fast a file is answered by one worker and by two, here and on Ray, and what a million lines cost.

    python bench/batch.py BUNDLE [lines]       # 1,000 lines of BANKING77 by default

Workers are confined to so many cores; the time is that of the whole command, its start and the loading of the model
included. The bytes must be the same each time. Dollars: at the hourly price of the price book's machines with two
cores, all of whose time is used.
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

from quality import SHARED, in_words

from tunewright.economics import price_book
from tunewright.inference.bundle import read_info

MACHINES = ("Standard_D2s_v5", "container-apps-2-4")


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


def main(bundle: Path, lines: int) -> None:
    prices = price_book().machines
    rows = in_words(SHARED / "banking77" / "test.jsonl")[:lines]
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "in.jsonl"
        source.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows), "utf-8")
        alone, first = 0.0, ""
        for name, cores, ray in (("one worker", {0}, 0), ("two workers", {0, 1}, 0), ("Ray, two workers", {0, 1}, 2)):
            seconds, content = answered(bundle, source, Path(scratch) / f"{name}.jsonl", cores, ray)
            alone, first = alone or seconds, first or content
            rate = len(rows) / seconds
            hours = 1e6 / rate / 3600
            costs = [f"${hours * prices[machine].usd_per_hour:.2f} a million on {machine}" for machine in MACHINES]
            same = "the same bytes" if content == first else "OTHER BYTES"
            told = [f"{read_info(bundle).runtime}, {name}: {rate:.1f} lines a second", f"{alone / seconds:.2f} x", same]
            print(*told, *(costs if len(cores) > 1 else ()), sep=", ", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 1000)
