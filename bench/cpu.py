"""A model's true size on this machine's CPU: ours, ONNX Runtime GenAI and llama.cpp, side by side, and the limits.

    python bench/true_size.py phi-3-mini merge int8 int4 onnx-int8 onnx-int4   # the weights, random
    pip install llama-cpp-python                                               # compiled here: AVX-512, VNNI
    python bench/cpu.py phi-3-mini [WAY ...]

llama.cpp's ways read q8_0.gguf and q4_k_m.gguf in bench/runs/true_size/MODEL/out/, made of the same shape
(`tunewright.export.gguf.write_gguf`).

Each way runs in a process of its own, in turn, three times. Asked is as serving asks: a ticket of 60 tokens behind a
system prompt of 610 that was read before, to the first logits (P50 of nine), then tokens written behind it one by one,
for one client and for eight at once. The limits: int8 products as oneDNN multiplies large ones, and bytes read by all
cores. Nothing else may run on the machine.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.processes import threads

RUNS = Path(__file__).parent / "runs" / "true_size"
PROMPT, TICKET, TICKETS, WRITTEN, CLIENTS = 610, 60, 9, 24, 8
CONTEXT = 1024
ROUNDS = 3


def prompts(count: int) -> list[list[int]]:
    draw = random.Random(0)
    begin = draw.choices(range(5, 30000), k=PROMPT)
    return [[*begin, *draw.choices(range(5, 30000), k=TICKET)] for _ in range(count)]


def resident() -> float:
    """GiB of this process that can't be evicted."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**20


def timed(asked: Callable[[], Any]) -> float:
    started = time.perf_counter()
    asked()
    return time.perf_counter() - started


def ours(precision: str) -> Callable[[Path], dict[str, float]]:
    def measure(folder: Path) -> dict[str, float]:
        from tunewright.models.paged_model import PagedNextToken

        started = time.perf_counter()
        model = PagedNextToken(folder / "out" / precision, context=CONTEXT)
        first, *tickets = prompts(TICKETS + 1 + CLIENTS)
        model(first[:PROMPT])  # the plug-in arranges its weights in the first pass
        load = time.perf_counter() - started
        latency = statistics.median(timed(lambda ids=ids: model(ids)) for ids in tickets[:TICKETS])

        def write(ids: list[int]) -> None:
            behind, said = model.begin(ids), list[int]()
            for _ in range(WRITTEN + 1):
                said.append(int(behind(said).argmax()))

        alone = timed(lambda: write(tickets[0])) - latency
        model.many(tickets[-CLIENTS:])  # their prompts are in memory
        with ThreadPoolExecutor(CLIENTS) as clients:
            beside = timed(lambda: list(clients.map(write, tickets[-CLIENTS:])))
        found = {"load": load, "ticket": latency, "one": WRITTEN / alone, "eight": CLIENTS * WRITTEN / beside}
        found["gib"] = resident()
        model.close()
        return found

    return measure


def onnx(precision: str) -> Callable[[Path], dict[str, float]]:
    """One sequence at a time: what onnxruntime-genai does on a CPU with a prompt that is kept."""

    def measure(folder: Path) -> dict[str, float]:
        from tunewright.models.ort_model import OrtNextToken

        started = time.perf_counter()
        model = OrtNextToken(folder / "out" / f"onnx-{precision}", context=CONTEXT)
        first, *tickets = prompts(TICKETS + 1)
        model(first[:PROMPT])
        load = time.perf_counter() - started
        latency = statistics.median(timed(lambda ids=ids: model(ids)) for ids in tickets)
        ids = list(tickets[-1])

        def write() -> None:
            for _ in range(WRITTEN):
                ids.append(int(model(ids).argmax()))

        model(ids)
        one = WRITTEN / timed(write)
        return {"load": load, "ticket": latency, "one": one, "eight": one, "gib": resident()}

    return measure


def llama(precision: str) -> Callable[[Path], dict[str, float]]:
    def measure(folder: Path) -> dict[str, float]:
        import llama_cpp as cpp

        cpp.llama_log_set(_SILENT, None)
        cpp.llama_backend_init()
        started = time.perf_counter()
        settings = cpp.llama_model_default_params()
        settings.use_mmap = True
        model = cpp.llama_model_load_from_file(str(folder / "out" / f"{precision}.gguf").encode(), settings)
        assert model
        asked = cpp.llama_context_default_params()
        asked.n_ctx, asked.n_batch, asked.n_ubatch = CONTEXT * (CLIENTS + 1), 1024, 512
        asked.n_seq_max, asked.n_threads, asked.n_threads_batch = CLIENTS + 1, threads(), threads()
        asked.kv_unified = True
        context = cpp.llama_init_from_model(model, asked)
        assert context
        memory = cpp.llama_get_memory(context)

        def read(parts: Sequence[tuple[int, int, Sequence[int]]]) -> None:
            """(sequence, tokens before, tokens) of each; the logits behind the last token of each."""
            batch = cpp.llama_batch_init(sum(len(ids) for *_, ids in parts), 0, 1)
            for sequence, past, ids in parts:
                for place, token in enumerate(ids):
                    row = batch.n_tokens
                    batch.token[row], batch.pos[row] = token, past + place
                    batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
                    batch.logits[row] = place == len(ids) - 1
                    batch.n_tokens += 1
            assert cpp.llama_decode(context, batch) == 0
            cpp.llama_synchronize(context)
            cpp.llama_batch_free(batch)

        first, *tickets = prompts(TICKETS + 1 + CLIENTS)
        read([(0, 0, first[:PROMPT])])
        load = time.perf_counter() - started

        def ticket(sequence: int, ids: Sequence[int]) -> None:
            """A ticket behind the prompt that sequence 0 holds."""
            cpp.llama_memory_seq_rm(memory, sequence, 0, -1)
            cpp.llama_memory_seq_cp(memory, 0, sequence, 0, -1)
            read([(sequence, PROMPT, ids[PROMPT:])])

        latency = statistics.median(timed(lambda ids=ids: ticket(1, ids)) for ids in tickets[:TICKETS])
        length = len(tickets[0])
        alone = timed(lambda: [read([(1, length + n, [7])]) for n in range(WRITTEN)])
        for number, ids in enumerate(tickets[-CLIENTS:], 1):
            ticket(number, ids)
        beside = timed(lambda: [
            read([(number, length + n, [7 + n]) for number in range(1, CLIENTS + 1)]) for n in range(WRITTEN)
        ])  # fmt: skip
        mapped = (folder / "out" / f"{precision}.gguf").stat().st_size / 2**30  # its pages are read in every pass
        return {"load": load, "ticket": latency, "one": WRITTEN / alone, "eight": CLIENTS * WRITTEN / beside,
                "gib": resident() + mapped}  # fmt: skip

    return measure


def _silent(*_: Any) -> None:
    pass


try:
    from llama_cpp import llama_log_callback

    _SILENT = llama_log_callback(_silent)
except ModuleNotFoundError:
    pass

WAYS: dict[str, Callable[[Path], dict[str, float]]] = {
    "ours int8": ours("int8"),
    "ours int4": ours("int4"),
    "onnxruntime-genai int8": onnx("int8"),
    "onnxruntime-genai int4": onnx("int4"),
    "llama.cpp Q8_0": llama("q8_0"),
    "llama.cpp Q4_K_M": llama("q4_k_m"),
}


def limits(folder: Path) -> None:
    """What the machine multiplies and reads, and what a ticket and a token would take of it at least."""
    import torch

    torch.set_num_threads(threads())
    one, other = (torch.randint(-100, 100, sides, dtype=torch.int8) for sides in ((1024, 4096), (4096, 4096)))
    torch._int_mm(one, other)
    gops = 2 * 1024 * 4096 * 4096 / min(timed(lambda: torch._int_mm(one, other)) for _ in range(10)) / 1e9
    large = [np.ones(1 << 27, np.float32) for _ in range(threads())]

    def scan() -> None:
        readers = [threading.Thread(target=part.max) for part in large]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()

    scan()
    gigabytes = sum(part.nbytes for part in large) / min(timed(scan) for _ in range(5)) / 1e9
    parameters = sum(file.stat().st_size for file in (folder / "out" / "merged").glob("*.safetensors")) / 2
    print(f"\nMeasured on this machine: {gops:,.0f} GOPS of int8 products, {gigabytes:.0f} GB/s read.")
    print(f"A ticket of {TICKET} tokens at that peak: {2e3 * parameters * TICKET / gops / 1e9:,.0f} ms.")
    for precision in ("int8", "int4"):
        file = folder / "out" / precision / "model.safetensors"
        if file.exists():
            print(f"A token in {precision}, {file.stat().st_size / 2**30:.1f} GiB read: "
                  f"{gigabytes * 1e9 / file.stat().st_size:.1f} a second at most.")  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    name, *ways = arguments
    folder = RUNS / name
    if ways[:1] == ["--inside"]:
        print(json.dumps(WAYS[ways[1]](folder)))
        return
    ways = ways or list(WAYS)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            done = subprocess.run([sys.executable, __file__, name, "--inside", way], capture_output=True, text=True)
            if done.returncode:
                print(f"{way} failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            else:
                found[way].append(json.loads(done.stdout.strip().splitlines()[-1]))
    print(
        f"| {name} | load s | ticket ms | tokens/s, 1 client | tokens/s, {CLIENTS} clients | GiB |\n" + 6 * "|---" + "|"
    )
    for way, rounds in found.items():
        if rounds:
            load, ticket, one, eight, gib = (
                statistics.median(each[key] for each in rounds) for key in ("load", "ticket", "one", "eight", "gib")
            )
            print(f"| {way} | {load:.1f} | {1000 * ticket:.0f} | {one:.1f} | {eight:.1f} | {gib:.1f} |", flush=True)
    limits(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
