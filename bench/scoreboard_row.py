"""One row of the scoreboard: a set, a model and a seed, from the raw files to the figures."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from scoreboard_sets import WRITERS, DataSet, parts_of, spec_of, write_project

import tunewright as tw
from tunewright.config import RUNS as OUTPUTS
from tunewright.config import ApiSpec, Spec
from tunewright.core.artifacts import sha256_json, write_json, write_jsonl
from tunewright.core.errors import UserError
from tunewright.core.processes import cpu_flags, processor
from tunewright.core.threads import cores
from tunewright.data import load_dataset
from tunewright.economics import price_book
from tunewright.economics.cost import LETTERS_A_TOKEN
from tunewright.evaluation.api.questions import asked_task, question
from tunewright.evaluation.evidence import Record, by_test, load_records
from tunewright.evaluation.statistics.intervals import accuracy
from tunewright.evaluation.verdict.comparison import CONTROLS, SERVED
from tunewright.inference.bundle import load_bundle
from tunewright.serving.batch import CHUNK, answer_file
from tunewright.training.capabilities import require_able

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "bench" / "runs" / "scoreboard"
MACHINE = "Standard_D2s_v5"
"""The machine whose price is taken, of two cores."""
API = "gpt-6-luna"
"""The API whose price stands beside ours, though nobody has measured it here: the cheapest that OpenAI recommends."""
BATCH_SECONDS, LEAST_LINES, MOST_LINES = 60, 64, 50_000
"""A batch has as many lines as would take so long one at a time, within these limits."""
QUIET = 0.1
"""Share of the machine's time that other work may take, beyond which times mean nothing."""
_TRIES = "tries.json"


def key_of(one: DataSet, model: str, seed: int) -> str:
    return f"{one.name}/{model}/{seed}"


def hashes(one: DataSet, spec: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, str]:
    """What a row rests on beside the code, of which it names the commit: the spec, the rows of the set."""
    return {
        "spec": sha256_json([spec, one.apart])[:12],
        "data": sha256_json(parts)[:12],
    }


def measure(one: DataSet, model: str, seed: int, data: Path, *, again: bool) -> dict[str, Any]:
    """Run a row's pipeline to its bundle, and time a batch. A run that was killed goes on.

    Returns: the row: its figures, or `reason` where the model can't do the set's task.

    Args:
        again: nothing that an earlier try has left is used.

    Raises:
        UserError: the run failed, which says nothing about the model.
    """
    folder, parts = RUNS / key_of(one, model, seed), parts_of(one, data)
    if again:
        shutil.rmtree(folder, ignore_errors=True)
    content = spec_of(one, model, seed, parts["train"])
    write_project(content, parts, folder)
    row: dict[str, Any] = {
        "set": one.name,
        "model": model,
        "seed": seed,
        "date": datetime.now(UTC).date().isoformat(),
        **commit(),
        "hashes": hashes(one, content, parts),
    }
    quiet, resumed = note_try(folder, others_busy() <= QUIET and "OMP_NUM_THREADS" not in os.environ)
    spec, began = tw.load_spec(folder), busy_seconds()
    try:
        require_able(spec)
    except UserError as error:
        return row | {"reason": without_places(error)}
    report = tw.run(spec)
    row |= figures(report, one) | {"machine": machine(), "epochs": content.get("train", {}).get("epochs")}
    row |= batch(report.bundle, parts, folder, model in WRITERS, row["p50_ms"])
    row |= {"quiet": quiet and others_share(began, busy_seconds()) <= QUIET, "resumed": resumed}
    return row | priced(row["answers_per_second"]) | {"api": api_price(spec, report.split)}


def figures(report: tw.Report, one: DataSet) -> dict[str, Any]:
    """What a run says of its served bundle on the test parts, and what its steps took."""
    compared = report.data["comparison"]
    served = compared["candidates"][SERVED]
    first, *_ = one.tests or compared["splits"]
    steps = report.pipeline.steps
    info = load_bundle(report.bundle).info
    scores = {name: candidate["scores"] for name, candidate in compared["candidates"].items()}
    found = {
        "metric": compared["primary_metric"],
        "first": first,
        "tests": {part: _scored(score) for part, score in scores[SERVED].items()},
        "baselines": {name: _shown(scores[name][first]["primary_metric"]) for name in CONTROLS if name in scores},
        "training_rows": len(load_dataset(report.split).train),
        "training_minutes": round(steps["train"].manifest.wall_seconds / 60, 2),
        "run_minutes": round(sum(step.manifest.wall_seconds for step in steps.values()) / 60, 2),
        "p50_ms": round(served["latency"]["p50_ms"], 2),
        "p95_ms": round(served["latency"]["p95_ms"], 2),
        "timed": served["latency"]["count"],
        "runtime": info.runtime,
        "precision": info.precision,
    }
    if one.apart:
        records = by_test(load_records(report.pipeline.folder("parity") / "answers" / f"{SERVED}.jsonl"))[first]
        found["apart"] = apart(records, one.apart)
    return found


def _scored(score: Mapping[str, Any]) -> dict[str, Any]:
    """Of one test part: the primary metric, of how many examples, and the other metrics."""
    others = {name: _shown(value) for name, value in score["others"].items()}
    return _shown(score["primary_metric"]) | {"n": score["count"], "others": others}


def apart(records: Sequence[Record], label: str) -> dict[str, dict[str, float]]:
    """The recall of a label, and the accuracy on all examples that have another."""
    of_label = [record.right for record in records if record.gold == label]
    others = [record.right for record in records if record.gold != label]
    return {
        f"accuracy without {label}": _shown(asdict(accuracy(others, None))),
        f"recall of {label}": _shown(asdict(accuracy(of_label, None))),
    }


def _shown(interval: Mapping[str, Any]) -> dict[str, float]:
    """An interval in percent, to a hundredth."""
    return {end: round(100 * interval[end], 2) for end in ("value", "low", "high")}


def batch(
    bundle: Path, parts: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, writes: bool, p50_ms: float
) -> dict[str, Any]:
    """Answers a second in a batch on all cores, the start of its workers included.

    The texts are those of the test and then of the training part. Only models that keep nothing from one text to the
    next are asked them more than once.

    Args:
        writes: it is a language model, which keeps the beginnings of prompts.
        p50_ms: what one answer takes alone.
    """
    wanted = lines_for(p50_ms)
    texts = list(dict.fromkeys(row["text"] for part in (*list(parts)[1:], "train") for row in parts[part]))
    repeats = 1 if writes else math.ceil(wanted / len(texts))
    source, target = folder / "asked.jsonl", folder / "answered.jsonl"
    asked = (texts * repeats)[:wanted]
    write_jsonl(source, ({"text": text} for text in asked))
    target.unlink(missing_ok=True)
    shutil.rmtree(target.with_name(f"{target.name}.parts"), ignore_errors=True)  # of a batch that was killed
    done = answer_file(bundle, source, target, chunk=max(1, min(CHUNK, math.ceil(len(asked) / (4 * cores())))))
    return {"answers_per_second": round(done.per_second, 2), "batch_lines": len(asked), "batch_refused": done.refused}


def lines_for(p50_ms: float) -> int:
    """How many lines a batch has, by what one answer takes alone."""
    return max(LEAST_LINES, min(MOST_LINES, round(1000 * BATCH_SECONDS / p50_ms)))


def priced(per_second: float) -> dict[str, Any]:
    """$ for a million answers on a machine that is kept busy: its price an hour over its answers an hour."""
    book = price_book()
    usd = book.machine(MACHINE).usd_per_hour
    return {
        "usd_per_million": round(usd / (per_second * 3600) * 1e6, 5),
        "priced_machine": MACHINE,
        "usd_per_hour": usd,
        "prices_of": book.as_of,
    }


def api_price(spec: Spec, split: Path) -> dict[str, Any]:
    """What a million of these requests would cost at an API, estimated from their letters: the instruction with all
    that may be answered, the text, the bare answer. Neither thinking nor a discount for repeated prompts is counted."""
    examples = load_dataset(split).test_examples
    settings = ApiSpec(model=API)
    task = asked_task(spec, settings)
    questions = [question(task, each.request, (), settings) for each in examples]
    read = fmean(sum(len(each["content"]) for each in one.messages) for one in questions) / LETTERS_A_TOKEN
    written = fmean(len(each.answer) for each in examples) / LETTERS_A_TOKEN
    book = price_book()
    return {
        "model": API,
        "prompt_tokens": round(read),
        "answer_tokens": round(written, 1),
        "usd_per_million": round(1e6 * book.api(API).usd(read, written), 2),
        "prices_of": book.apis_as_of,
    }


def machine() -> dict[str, Any]:
    half = any(flag in cpu_flags() for flag in ("avx512_bf16", "amx_bf16"))
    return {"processor": processor(), "cores": cores(), "bfloat16": half}


def commit() -> dict[str, Any]:
    """The commit of this code, and whether files differ from it; None where this is no clone."""

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return None if done.returncode else done.stdout.strip()

    changed = git("status", "--porcelain", "src")
    return {"commit": git("rev-parse", "--short=12", "HEAD"), "changed": None if changed is None else bool(changed)}


def others_busy(seconds: float = 1.0) -> float:
    """Share of the machine's time that others take while this process sleeps; 0 where the system does not say."""
    began = busy_seconds()
    time.sleep(seconds)
    return others_share(began, busy_seconds())


def busy_seconds() -> tuple[float, float, float]:
    """CPU seconds since the machine began: (all there were, those that were not idle, those of this process and of the
    processes that it has waited for); zeros where the system does not say."""
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    try:
        line = Path("/proc/stat").read_text("ascii").splitlines()[0]
    except OSError:
        return 0.0, 0.0, own
    ticks = [int(word) / os.sysconf("SC_CLK_TCK") for word in line.split()[1:9]]
    return sum(ticks), sum(ticks) - ticks[3] - ticks[4], own


def others_share(began: Sequence[float], ended: Sequence[float]) -> float:
    """Share of the machine's time between two readings of `busy_seconds` that others took."""
    there, busy, own = (now - then for now, then in zip(ended, began, strict=True))
    return max(0.0, busy - own) / there if there else 0.0


def note_try(folder: Path, quiet: bool) -> tuple[bool, list[str]]:
    """Note a try of a row whose steps may be used by later tries.

    Returns: whether all tries began on a quiet machine, and the steps that a try went on with after a kill: of those a
        manifest tells the last try's time alone.
    """
    file = folder / _TRIES
    left = sorted({path.name[1:].partition("-")[0] for path in (folder / OUTPUTS).glob(".*.partial")})
    tries = [*(json.loads(file.read_text("utf-8")) if file.exists() else ()), {"quiet": quiet, "resumed": left}]
    write_json(file, tries)
    return all(each["quiet"] for each in tries), sorted({step for each in tries for step in each["resumed"]})


def without_places(error: UserError) -> str:
    """An error without the paths of this machine."""
    text = " ".join(part for part in (error.what, error.why, error.fix) if part)
    return " ".join(text.replace(f"{RUNS}/", "").replace(f"{ROOT}/", "").split())
