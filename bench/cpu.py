"""A model's true size on this machine's CPU: ours, ONNX Runtime GenAI, OpenVINO GenAI and llama.cpp, side by side, and
the machine's limits.

    python bench/true_size.py phi-3-mini merge int8 int4 onnx-int8 onnx-int4 q8_0 q4_k_m   # the weights, random
    pip install llama-cpp-python openvino-genai==2026.4.1      # the first is compiled here: AVX-512, VNNI
    python bench/cpu.py phi-3-mini [WAY ...]
    python bench/cpu.py azure                                  # what would follow for Azure's machines

OpenVINO GenAI reads what Hugging Face's exporter writes. That needs an environment of its own (pip install
'optimum-intel[openvino]'), in bench/runs/true_size/phi-3-mini/out:

    cp ../tokenizer*.json merged; for bits in int8 int4; do
    optimum-cli export openvino --model merged --task text-generation-with-past --weight-format $bits genai-$bits; done

Each way runs in a process of its own, in turn, three times. Asked is as serving asks: a ticket of 60 tokens behind a
system prompt of 610 that was read before, to the first logits (P50 of nine), then 24 tokens written behind it one by
one, for one client and for eight at once. Load is until two tokens are answered for. The limits: int8 products as
oneDNN multiplies large ones, in each round, and bytes that all cores read, in turn with tokens. Nothing else may run
meanwhile.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.threads import threads
from tunewright.models.catalogue import catalogue
from tunewright.models.tensor_files import Weights

RUNS = Path(__file__).parent / "runs" / "true_size"
PROMPT, TICKET, TICKETS, WRITTEN, CLIENTS = 610, 60, 9, 24, 8
CONTEXT = 1024
ROUNDS = 3
LIMITS = "limits"
AZURE = {"D4s_v5": 2, "D8s_v5": 4, "D16s_v5": 8}
"""Machines and their cores, of two vCPUs each (learn.microsoft.com, dv5-dsv5-series, 2026-11-27)."""
GOPS_A_CORE, GIGABYTES_A_CORE = 2 * 64 * 2 * 2.8, 204.8 / 32
"""Of their Xeon 8370C: two products of 64 pairs a cycle at 2.8 GHz; eight channels of DDR4-3200 for 32 cores."""
SIZES = ("llama-3.2-1b", "phi-3-mini", "llama-3-8b")
REACHED = (("int8", 0.55, 0.88, 1.0), ("int4", 0.54, 0.68, 0.65))
"""Precision, shares of products and of bandwidth that ours reached (docs/true-size.md), bytes of a weight."""


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


def written(write: Callable[[Any, int], None], prompts: Sequence[Any]) -> float:
    """Tokens a second behind the first one of each answer, the prompts in memory."""
    for _ in range(3):  # OpenVINO GenAI knows a prompt when it is asked for the third time
        write(prompts, 1)
    first = timed(lambda: write(prompts, 1))
    return len(prompts) * WRITTEN / (timed(lambda: write(prompts, WRITTEN + 1)) - first)


def ours(precision: str, *, adapted: bool = False) -> Callable[[Path], dict[str, float]]:
    def measure(folder: Path) -> dict[str, float]:
        from tunewright.inference.runtimes.openvino.model import PagedNextToken

        adapter = some_adapter(folder) if adapted else None
        started = time.perf_counter()
        model = PagedNextToken(folder / "out" / precision, context=CONTEXT, adapter=adapter)
        model([7, 8])  # the plug-in arranges its weights in the first pass
        load = time.perf_counter() - started
        first, *tickets = prompts(TICKETS + 1 + CLIENTS)
        model(first[:PROMPT])
        latency = statistics.median(timed(lambda ids=ids: model(ids)) for ids in tickets[:TICKETS])

        def write(prompts: Sequence[list[int]], count: int) -> None:
            def answer(ids: list[int]) -> None:
                behind, said = model.begin(ids), list[int]()
                for _ in range(count):
                    said.append(int(behind(said).argmax()))

            with ThreadPoolExecutor(CLIENTS) as clients:
                list(clients.map(answer, prompts))

        one, eight = written(write, tickets[:1]), written(write, tickets[-CLIENTS:])
        found = {"load": load, "ticket": latency, "one": one, "eight": eight, "gib": resident()}
        behind, said = model.begin(tickets[0]), list[int]()
        found |= beside_reading(lambda: said.append(int(behind(said).argmax())))
        model.close()
        return found

    return measure


def beside_reading(write: Callable[[], None]) -> dict[str, float]:
    """How long a token takes, and how much the machine reads a second, in turn: that swings where it is shared."""
    import torch

    torch.set_num_threads(threads())
    large = torch.ones(1 << 28)
    turns = [(timed(large.sum), timed(write)) for _ in range(WRITTEN + 3)][3:]
    read, token = (statistics.median(each) for each in zip(*turns, strict=True))
    return {"gigabytes": large.nbytes / read / 1e9, "token": token}


def some_adapter(folder: Path) -> Any:
    """The random one of `bench/true_size.py`, as it is served."""
    from tunewright.exporters.openvino import export_adapter
    from tunewright.inference.runtimes.openvino.adapter import load_adapter

    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "adapter"
        export_adapter(folder / "adapter", folder, target, "int8")
        return load_adapter(target)


def onnx(precision: str) -> Callable[[Path], dict[str, float]]:
    """One sequence at a time: what onnxruntime-genai does on a CPU with a prompt that is kept."""

    def measure(folder: Path) -> dict[str, float]:
        import onnxruntime_genai as og

        started = time.perf_counter()
        model = og.Model(str(folder / "out" / f"onnx-{precision}"))
        parameters = og.GeneratorParams(model)
        parameters.set_search_options(do_sample=False, max_length=CONTEXT)
        generator = og.Generator(model, parameters)

        def read(past: int, ids: Sequence[int]) -> None:
            generator.rewind_to(past)
            generator.append_tokens(np.array(ids, np.int32))
            generator.get_logits()

        read(0, [7, 8])
        load = time.perf_counter() - started
        first, *tickets = prompts(TICKETS + 1)
        read(0, first[:PROMPT])
        latency = statistics.median(timed(lambda ids=ids: read(PROMPT, ids[PROMPT:])) for ids in tickets)

        def write() -> None:
            for _ in range(WRITTEN):
                generator.generate_next_token()

        generator.generate_next_token()
        one = WRITTEN / timed(write)
        return {"load": load, "ticket": latency, "one": one, "eight": one, "gib": resident()}

    return measure


def genai(precision: str) -> Callable[[Path], dict[str, float]]:
    """Its pipeline for many at once, with prompts that are kept, as it is set up by default."""

    def measure(folder: Path) -> dict[str, float]:
        import openvino_genai as og
        from openvino import Tensor

        started = time.perf_counter()
        scheduler = og.SchedulerConfig()
        scheduler.enable_prefix_caching, scheduler.max_num_batched_tokens = True, 1024
        model = og.ContinuousBatchingPipeline(folder / "out" / f"genai-{precision}", scheduler, "CPU")

        def write(prompts: Sequence[Sequence[int]], count: int) -> None:
            setting = og.GenerationConfig(max_new_tokens=count, min_new_tokens=count, ignore_eos=True, do_sample=False)
            model.generate([Tensor(np.array([ids], np.int64)) for ids in prompts], [setting] * len(prompts))

        write([[7, 8]], 1)
        load = time.perf_counter() - started
        first, *tickets = prompts(TICKETS + 2 + CLIENTS)
        write([first[:PROMPT]], 1)
        latency = statistics.median(timed(lambda ids=ids: write([ids], 1)) for ids in tickets[:TICKETS])
        one, eight = written(write, tickets[TICKETS : TICKETS + 1]), written(write, tickets[-CLIENTS:])
        return {"load": load, "ticket": latency, "one": one, "eight": eight, "gib": resident()}

    return measure


def llama(precision: str) -> Callable[[Path], dict[str, float]]:
    def measure(folder: Path) -> dict[str, float]:
        (file,) = (folder / "out" / precision.lower()).glob("*.gguf")
        import llama_cpp as cpp

        cpp.llama_log_set(_SILENT, None)
        cpp.llama_backend_init()
        started = time.perf_counter()
        settings = cpp.llama_model_default_params()
        settings.use_mmap = True
        model = cpp.llama_model_load_from_file(str(file).encode(), settings)
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

        read([(0, 0, [7, 8])])
        load = time.perf_counter() - started
        cpp.llama_memory_seq_rm(memory, 0, 0, -1)
        first, *tickets = prompts(TICKETS + 1 + CLIENTS)
        read([(0, 0, first[:PROMPT])])

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
        beside = timed(
            lambda: [read([(number, length + n, [7 + n]) for number in range(1, CLIENTS + 1)]) for n in range(WRITTEN)]
        )
        mapped = file.stat().st_size / 2**30  # its pages are read in every pass
        return {
            "load": load,
            "ticket": latency,
            "one": WRITTEN / alone,
            "eight": CLIENTS * WRITTEN / beside,
            "gib": resident() + mapped,
        }

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
    "ours int8, an adapter": ours("int8", adapted=True),
    "onnxruntime-genai int8": onnx("int8"),
    "onnxruntime-genai int4": onnx("int4"),
    "openvino-genai int8": genai("int8"),
    "openvino-genai int4": genai("int4"),
    "llama.cpp Q8_0": llama("q8_0"),
    "llama.cpp Q4_K_M": llama("q4_k_m"),
}


def limits() -> dict[str, float]:
    """What the machine multiplies."""
    import torch

    torch.set_num_threads(threads())
    one, other = (torch.randint(-100, 100, sides, dtype=torch.int8) for sides in ((1024, 4096), (4096, 4096)))
    products = min(timed(lambda: torch._int_mm(one, other)) for _ in range(12))
    return {"gops": 2 * 1024 * 4096 * 4096 / products / 1e9}


def bounds(name: str, folder: Path, found: Mapping[str, Mapping[str, float]], limit: Mapping[str, float]) -> None:
    """How far ours is from what the machine can do."""
    shape = catalogue()[name].shape
    assert shape
    embedding = shape.vocabulary * shape.hidden  # of which a row a token is read
    parameters = sum(math.prod(tensor.shape) for tensor in Weights(folder / "out" / "merged").values())
    inner = parameters - embedding * (1 if shape.tied else 2)
    print(f"\nint8 products of large matrices: {limit['gops']:,.0f} GOPS.")
    for precision in ("int8", "int4"):
        if not (ours := found.get(f"ours {precision}")):
            continue
        best = 2 * (inner * TICKET + embedding) / limit["gops"] / 1e9
        file = folder / "out" / precision / "model.safetensors"
        head = shape.head_width or shape.hidden // shape.heads
        memory = 2 * 2 * shape.layers * shape.kv_heads * head * (PROMPT + TICKET + WRITTEN)
        read = (file.stat().st_size - (0 if shape.tied else embedding) + memory) / 1e9
        print(
            f"{precision}: a ticket's products take {1e3 * best:.0f} ms at that peak, {best / ours['ticket']:.0%} of "
            f"its time; a token reads {read:.2f} GB, {read / ours['token']:.0f} GB/s, "
            f"{read / ours['token'] / ours['gigabytes']:.0%} of the {ours['gigabytes']:.0f} that all cores read "
            "between."
        )


def azure() -> None:
    """What a ticket and a token would take on Azure's machines, if ours reached the same shares of their limits."""
    print(f"| | | {' | '.join(AZURE)} |\n|---|---|{len(AZURE) * '---|'}")
    for name in SIZES:
        shape = catalogue()[name].shape
        assert shape
        parameters = catalogue()[name].parameters * 1e9
        embedding = shape.vocabulary * shape.hidden
        inner = parameters - embedding * (1 if shape.tied else 2)
        for precision, products, bandwidth, size in REACHED:
            cells = []
            for cores in AZURE.values():
                ticket = 2 * (inner * TICKET + embedding) / (products * cores * GOPS_A_CORE * 1e9)
                read = size * inner + embedding
                cells.append(f"{1e3 * ticket:,.0f} ms, {bandwidth * cores * GIGABYTES_A_CORE * 1e9 / read:.0f}")
            print(f"| {name} | {precision} | {' | '.join(cells)} |")


def main(arguments: Sequence[str]) -> None:
    name, *ways = arguments
    if name == "azure":
        azure()
        return
    folder = RUNS / name
    if ways[:1] == ["--inside"]:
        print(json.dumps(limits() if ways[1] == LIMITS else WAYS[ways[1]](folder)))
        return
    ways = ways or list(WAYS)
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in (LIMITS, *ways)}
    for _ in range(ROUNDS):
        for way, found in rounds.items():
            done = subprocess.run([sys.executable, __file__, name, "--inside", way], capture_output=True, text=True)
            if done.returncode:
                print(f"{way} failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            else:
                found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    middle = {
        way: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for way, found in rounds.items()
        if found
    }
    print(f"| {name} | load s | ticket ms | tokens/s, 1 client | tokens/s, {CLIENTS} clients | GiB |\n|{6 * '---|'}")
    for way in ways:
        if figures := middle.get(way):
            load, ticket, one, eight, gib = (figures[key] for key in ("load", "ticket", "one", "eight", "gib"))
            print(f"| {way} | {load:.1f} | {1000 * ticket:.0f} | {one:.1f} | {eight:.1f} | {gib:.1f} |")
    bounds(name, folder, middle, middle[LIMITS])


if __name__ == "__main__":
    main(sys.argv[1:])
