"""Where the time of one answer goes: HTTP, tokenizer, waiting, and each kind of operation of the forward pass.

    python bench/breakdown.py [answers]        # 100 by default

The server of bench/serve.py in its fastest form, OpenVINO in int8 with labels of one token, one client: BANKING77's 77
labels, a system prompt of 610 tokens that is prefilled once, tickets of 67 tokens. The weights are untuned, because
tuning changes no time. As many other tickets are asked first, so that the memory has been used once. Every figure is a
median; kinds of operations share the time of a pass as the network's counters say. OpenVINO's slow the pass down, and
are off where the pass is timed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import openvino
from quality import project
from serve import INSTRUCTION, NAME, tickets

import tunewright as tw
from tunewright.core.threads import threads
from tunewright.exporters.bundle import write_bundle
from tunewright.exporters.kept_prompt import save_kept_prompt
from tunewright.exporters.openvino import build_openvino
from tunewright.inference.bundle import Bundle, load_bundle
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.checksums import Verification, seal
from tunewright.inference.runtimes.openvino.network import CompiledGraph, PagedNetwork
from tunewright.inference.runtimes.openvino.passes import PASS_TOKENS, SequencePart
from tunewright.inference.runtimes.vnni.network import PackedWeights, VnniNetwork
from tunewright.models.resolve import resolve
from tunewright.serving.child import running_server
from tunewright.serving.engine import Engine

KINDS = {
    "FullyConnectedCompressed": "matrices",
    "FullyConnected": "matrices",
    "PagedAttentionExtension": "attention",
    "Multiply": "gates",
    "RMS": "norms, rotations, sums",
    "RoPE": "norms, rotations, sums",
    "Add": "norms, rotations, sums",
    # Our own kernels.
    "between": "norms, rotations, gates, sums",
    "waiting": "waiting for the other thread",
}
"""OpenVINO's type of a node, or what our own kernels count -> the row of the table. Other names are their own."""
REST = "the rest of the graph"


def bundle(folder: Path) -> tuple[Bundle, list[str]]:
    """(an untuned bundle, the tickets to ask)."""
    told = [f"task.instruction={json.dumps(INSTRUCTION)}", "task.single_token_labels=true", "train.max_length=1024"]
    spec = tw.load_spec(project(NAME, final=True, twice=False), [*told, "export.runtime=openvino"])
    base = resolve(spec.model, spec.folder)
    build_openvino(base.folder, folder / "openvino", "int8")
    write_bundle(spec, base, folder, 1)
    save_calibration(UNCALIBRATED, folder)
    unsealed = load_bundle(folder, verification=Verification(on=False))
    save_kept_prompt(unsealed, unsealed.load())
    seal(folder)
    loaded = load_bundle(folder)
    return loaded, [text for text, _ in tickets(spec, loaded)]


def milliseconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began)


@contextmanager
def counting() -> Iterator[None]:
    """Graphs that are compiled meanwhile count the time of their nodes."""
    compiled = openvino.Core.compile_model

    def with_counters(core: Any, model: Any, device: str, settings: Mapping[str, Any]) -> Any:
        return compiled(core, model, device, {**settings, "PERF_COUNT": True})

    openvino.Core.compile_model = with_counters
    try:
        yield
    finally:
        openvino.Core.compile_model = compiled


class Pass:
    """The forward pass of a ticket behind a system prompt that is in memory, in our own kernels or in OpenVINO."""

    def __init__(self, loaded: Bundle, texts: list[str]):
        prompts = [loaded.template.encode_prompt(loaded.task.prompt(text), loaded.tokenizer) for text in texts[:2]]
        self.known = next(n for n, (one, other) in enumerate(zip(*prompts, strict=False)) if one != other)
        self.new = len(prompts[0]) - self.known
        self._prompt = prompts[0]
        folder, context = loaded.folder / "openvino", loaded.info.context
        packed = PackedWeights.load(folder)
        self._network = (
            VnniNetwork(packed, context, threads())
            if packed
            else PagedNetwork(CompiledGraph(folder, None, 1, 0, None), context)
        )
        size = self._network.block_size
        self._blocks = list(range(-(-len(self._prompt) // size)))
        for start in range(0, self.known, PASS_TOKENS):
            end = min(start + PASS_TOKENS, self.known)
            head = self._blocks[: -(-end // size)]
            self._network.forward([SequencePart(self._prompt[start:end], start, head, None, needs_logits=False)])

    def __call__(self) -> None:
        rest = self._prompt[self.known :]
        self._network.forward([SequencePart(rest, self.known, self._blocks, None, needs_logits=True)])

    def by_kind(self) -> dict[str, float]:
        """How the time of one pass is shared between kinds of work; the unit depends on the network."""
        found: dict[str, float] = defaultdict(float)
        if isinstance(self._network, VnniNetwork):
            before = self._network.spent()
            self()
            for kind, cycles in self._network.spent().items():
                found[KINDS.get(kind, kind)] += cycles - before[kind]
            return found
        self()
        for node in self._network._request.profiling_info:
            found[KINDS.get(node.node_type, REST)] += node.real_time.total_seconds()
        return found


def main(answers: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        loaded, texts = bundle(Path(scratch))
        engine, forward = Engine.load(loaded), Pass(loaded, texts)
        with counting():
            counted = Pass(loaded, texts)
        taken, kinds = [], []
        with running_server(loaded.folder) as address, httpx.Client(base_url=address, timeout=60) as client:
            for text in texts[-answers:]:
                client.post("/v1/classify", json={"text": text}).raise_for_status()
                engine.answer(text)
            # In turn for each ticket, because a machine's speed changes within minutes.
            for text in texts[:answers]:
                acts = (
                    partial(client.post, "/v1/classify", json={"text": text}),
                    partial(engine.answer, text),
                    partial(loaded.template.encode_prompt, loaded.task.prompt(text), loaded.tokenizer),
                    forward,
                )
                taken.append([milliseconds(act) for act in acts])
                kinds.append(counted.by_kind())
    asked, answered, encoded, passed = (median(each) for each in zip(*taken, strict=True))
    nodes = {
        kind: median(each.get(kind, 0.0) for each in kinds) for kind in dict.fromkeys(k for each in kinds for k in each)
    }
    share = passed / sum(nodes.values())
    rows = {
        "HTTP, its JSON, and the client": asked - answered,
        "prompt and tokenizer": encoded,
        "scheduler, logits, Python": answered - encoded - passed,
    } | {f"pass: {kind}": ms * share for kind, ms in nodes.items()}
    print(f"{forward.known} tokens in memory, {forward.new} new ones; {len(taken)} answers")
    for name, ms in rows.items():
        print(f"| {name} | {ms:.1f} ms | {ms / asked:.0%} |")
    print(f"| together, over HTTP | {asked:.1f} ms | |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
