"""How much longer a training step takes beside busy processes, with GNU's way of waiting and with ours.

    python bench/neighbours.py [NEIGHBOURS …]    # by default 0, 1, 2 and 4; some fifteen minutes on two quiet cores

A step is forward and backward through SmolLM2-135M for two texts of 128 tokens, in float32, with as many threads as
there are cores. A neighbour is a process that counts. The fair factor is that of a process whose threads get the same
share of the cores as each neighbour; one core's two hyperthreads are slower than two cores, so nobody reaches it.
Each figure is the median step of three processes, which take turns.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import sleep

from tunewright.core.threads import POLICY, SETTING, TURNS, cores
from tunewright.models.resolve import resolve

STEPS, ROUNDS = 3, 3
PR_SET_PDEATHSIG = 1
STEP = """
import sys, time
from tunewright.core.threads import confine
if sys.argv[2] == "ours":
    confine()
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model.requires_grad_(False)
for name, weight in model.named_parameters():
    weight.requires_grad_("q_proj" in name)
ids = torch.randint(0, 40_000, (2, 128), generator=torch.Generator().manual_seed(0))
for number in range(int(sys.argv[3]) + 1):
    began = time.perf_counter()
    model(ids, labels=ids).loss.backward()
    model.zero_grad()
    if number:
        print(time.perf_counter() - began)
"""


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that are busy all the time."""
    code = "while True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", code], preexec_fn=die_with_parent) for _ in range(count)]
    try:
        sleep(10 if count else 0)  # the system tells about the last ten seconds
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def seconds(model: Path, waiting: str) -> float:
    """The median step of a process."""
    environment = {name: value for name, value in os.environ.items() if name not in {SETTING, TURNS, POLICY}}
    done = subprocess.run(
        [sys.executable, "-c", STEP, str(model), waiting, str(STEPS)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        preexec_fn=die_with_parent,
    )
    return median(map(float, done.stdout.split()))


def main(counts: list[int]) -> None:
    model = resolve("smollm2-135m", Path.cwd()).folder
    print(f"{cores()} cores\n\n| busy neighbours | GNU's, s a step | ours, s a step | times as fast | fair factor |")
    print("|---|---|---|---|---|")
    for count in counts:
        with neighbours(count):
            pairs = [(seconds(model, "gnu"), seconds(model, "ours")) for _ in range(ROUNDS)]
        theirs, ours = (median(each) for each in zip(*pairs, strict=True))
        fair = max(1.0, (cores() + count) / cores())
        print(f"| {count} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.2f} | {fair:.1f} |", flush=True)


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or [0, 1, 2, 4])
