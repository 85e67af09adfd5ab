"""The step `parity`: the same test examples through every form of the model, up to the running server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from tunewright.artifacts import Output, write_json
from tunewright.data import load_dataset
from tunewright.evaluate.comparison import ADAPTER, SERVED
from tunewright.evaluate.evidence import VALIDATION, Record, collect, groups_of, load_records
from tunewright.evaluate.predictors import Answer
from tunewright.evaluate.statistics import Interval, paired
from tunewright.evaluate.steps import ANSWERS, deployed_splits
from tunewright.export.bundle import load_bundle
from tunewright.progress import say
from tunewright.serve.server import running_server
from tunewright.spec import Spec


@dataclass(frozen=True)
class Link:
    """One form of the model, compared with the trained adapter on all test examples."""

    arm: str
    agreement: float
    """Share of answers that equal the adapter's."""
    accuracy: float
    lost: Interval
    """Accuracy lost against the adapter, paired by example, with its 95 % interval over whole groups."""
    max_confidence_gap: float
    """Largest difference of confidence on one example where the answers agree."""


def run_parity(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Start the bundle's server, ask it everything, and compare it with the earlier forms of the model.

    Writes `answers/served.jsonl` and `parity.json`. A failed gate is written down, not raised: the verdict reports it.
    """
    folder = inputs["export"] / "bundle"
    bundle = load_bundle(folder)
    splits = deployed_splits(spec, load_dataset(inputs["split"]))
    with running_server(folder) as address, httpx.Client(base_url=address, timeout=60) as client:
        request = next(iter(splits[VALIDATION]), next(iter(splits.values()))[0]).request
        reply = chat_once(client, bundle.info.name, request)
        say(f"  asked the server: {' '.join(request.split())[:70]} → {reply}")
        served = collect(SERVED, _Served(client), splits, output.path / ANSWERS)
    adapter = load_records(inputs["evaluate"] / ANSWERS / f"{ADAPTER}.jsonl")
    chain = [
        _link(name, load_records(inputs["evaluate"] / ANSWERS / f"{name}.jsonl"), adapter, spec.seed)
        for name in (ADAPTER, "merged", "onnx")
    ]
    chain.append(_link(SERVED, served, adapter, spec.seed))
    failures = gate_failures(spec, chain)
    for failure in failures:
        say(f"  ✗ gate: {failure}")
    write_json(
        output.path / "parity.json",
        {
            "passed": not failures,
            "failures": failures,
            "chain": [asdict(link) for link in chain],
            "request": request,
            "reply": reply,
            "template_sha256": bundle.info.template_sha256,
        },
    )
    output.result = {"passed": not failures, "agreement": chain[-1].agreement, "accuracy": chain[-1].accuracy}


def gate_failures(spec: Spec, chain: Sequence[Link]) -> list[str]:
    """What of the spec's parity gates the served bundle does not keep.

    Quantising moves a few answers either way, so a small test part shows a loss or a gain by chance. The gate on
    accuracy fails where the loss is both larger than allowed and more than chance (its interval lies above zero); the
    gate on disagreement holds whatever the number of examples.
    """
    last = chain[-1]
    failures = []
    if 1 - last.agreement > spec.export.max_disagreement:
        failures.append(
            f"the served bundle disagrees with the adapter on {1 - last.agreement:.1%} of the answers, more than "
            f"export.max_disagreement = {spec.export.max_disagreement:.1%}"
        )
    if last.lost.value > spec.export.max_accuracy_drop and last.lost.low > 0:
        failures.append(
            f"the served bundle is {last.lost.value:.1%} ({last.lost.low:.1%} to {last.lost.high:.1%}) less accurate "
            f"than the adapter, more than export.max_accuracy_drop = {spec.export.max_accuracy_drop:.1%}"
        )
    return failures


def chat_once(client: httpx.Client, model: str, text: str) -> str:
    """One request in OpenAI's form, as a user of the server would send it."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    return str(answer["choices"][0]["message"]["content"])


class _Served:
    def __init__(self, client: httpx.Client):
        self._client = client

    def answer(self, request: str) -> Answer:
        reply: dict[str, Any] = self._client.post("/v1/classify", json={"text": request}).raise_for_status().json()
        usage = reply["usage"]
        return Answer(reply["label"], reply["confidence"], usage["prompt_tokens"], usage["completion_tokens"])


def _link(arm: str, records: Sequence[Record], adapter: Sequence[Record], seed: int) -> Link:
    tests = {record.id: record for record in records if record.split != VALIDATION}
    pairs = [(record, tests[record.id]) for record in adapter]
    same = [(first, second) for first, second in pairs if first.answer == second.answer]
    gap = max((abs((first.confidence or 0) - (second.confidence or 0)) for first, second in same), default=0.0)
    return Link(
        arm,
        agreement=len(same) / len(pairs),
        accuracy=sum(second.right for _, second in pairs) / len(pairs),
        lost=paired(
            [first.right for first, _ in pairs], [second.right for _, second in pairs], groups_of(adapter), seed
        ).difference,
        max_confidence_gap=round(gap, 4),
    )
