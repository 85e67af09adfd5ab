"""The data check on many generated chat examples: rows a second, peak memory, and whether what was planted is found.

    python bench/data.py                      # 1,000,000 examples, about 650 MB, in a folder for temporary files
    python bench/data.py --rows 100000 --peers  # and near copies alone beside datasketch and rensa, where installed
    RAY_ADDRESS=local python bench/data.py --rows 100000 --same  # the parts on Ray's workers, then on processes

A request is nine questions of one intent of BANKING77 (training part; seeded) in a row, the answer that
intent. Planted: one row in a hundred repeats another exactly, one in fifty nearly (one to six words replaced), one in a
hundred holds an e-mail address, one in a thousand is cut off. Memory is the sum over all processes, each page counted
once (PSS), looked at every half second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

from near import DATA


def generate(path: Path, rows: int) -> Counter[str]:
    """Write the examples; returns how many of each kind were planted."""
    draw, intents = random.Random(1), defaultdict[str, list[str]](list)
    for line in (DATA / "train.jsonl").open(encoding="utf-8"):
        question = json.loads(line)
        intents[question["label"]].append(question["text"])
    names = sorted(intents)
    words = sorted({word for texts in intents.values() for text in texts for word in text.split()})
    planted: Counter[str] = Counter()
    earlier: list[tuple[str, str]] = []
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            kind = (
                "new"
                if number < 1000
                else draw.choices(["repeat", "near", "email", "cut", "new"], [10, 20, 10, 1, 959])[0]
            )
            planted[kind] += 1
            route = draw.choice(names)
            text = " ".join(draw.choices(intents[route], k=9))
            if kind in ("repeat", "near"):
                text, route = draw.choice(earlier)
            if kind == "near":
                parts = text.split()
                for place in draw.sample(range(len(parts)), draw.randint(1, 6)):
                    parts[place] = draw.choice(words)
                text = " ".join(parts)
            if kind == "email":
                text += f" Write to customer{number}@mail.example please."
            if kind == "new" and len(earlier) < 100_000:
                earlier.append((text, route))
            messages = [
                {"role": "system", "content": "Which team answers this?"},
                {"role": "user", "content": text},
                {"role": "assistant", "content": route},
            ]
            line = json.dumps({"messages": messages})
            stream.write((line[: len(line) // 2] if kind == "cut" else line) + "\n")
    return planted


class Memory:
    """The largest proportional set size of a process and its children, in MiB."""

    def __init__(self, root: int):
        self.root, self.peak, self._ended = root, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.peak = max(self.peak, sum(map(_pss, _tree(self.root))) / 1024)


def _tree(root: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (ValueError, OSError):
            continue
    members = [root]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


def _pss(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def check(data: Path, out: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak MiB of `tunewright data check` as a user types it."""
    started = time.perf_counter()
    command = str(Path(sys.executable).with_name("tunewright"))
    line = [command, "data", "check", str(data), "--out", str(out), "--fail-on", "never"]
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    memory = Memory(process.pid)
    code = process.wait()
    memory.end()
    if code:
        raise SystemExit(f"the check ended with {code}")
    return time.perf_counter() - started, memory.peak


def found(out: Path) -> dict[str, int]:
    findings = json.loads((out / "findings.json").read_text("utf-8"))["findings"]
    return {finding["code"]: finding["count"] for finding in findings}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peers", action="store_true", help="near copies alone, beside datasketch and rensa")
    parser.add_argument("--same", action="store_true", help="check again without Ray, and compare what was found")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data, out = Path(scratch) / "chat.jsonl", Path(scratch) / "out"
        planted = generate(data, arguments.rows)
        on = f"Ray ({os.environ['RAY_ADDRESS']})" if os.environ.get("RAY_ADDRESS") else "processes"
        print(f"{arguments.rows:,} examples, {data.stat().st_size / 1e6:.0f} MB; planted {dict(planted)}")
        seconds, peak = check(data, out, dict(os.environ))
        print(f"{on}: {seconds:.1f} s, {arguments.rows / seconds:,.0f} rows/s, peak {peak:,.0f} MiB")
        print(f"found {found(out)}")
        if arguments.same:
            plain = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
            seconds, peak = check(data, Path(scratch) / "plain", plain)
            print(f"processes: {seconds:.1f} s, {arguments.rows / seconds:,.0f} rows/s, peak {peak:,.0f} MiB")
            same = (out / "findings.json").read_bytes() == (Path(scratch) / "plain" / "findings.json").read_bytes()
            print(f"the same findings: {same}")
    if arguments.peers:
        for method in ("tunewright", "datasketch", "rensa"):
            line = [
                sys.executable,
                str(Path(__file__).with_name("near.py")),
                str(arguments.rows),
                "--with",
                method,
                "--line",
            ]
            print(subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
