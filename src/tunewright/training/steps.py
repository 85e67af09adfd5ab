"""The step `train` for a language model: it writes an adapter, its curve and a record of the training."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import Output, peak_memory_mb, read_jsonl, write_json, write_jsonl
from tunewright.core.processes import is_leader, process_count, share
from tunewright.core.progress import quiet_libraries, say, track
from tunewright.core.threads import threads
from tunewright.inference.runtimes.torch_model import compute_type
from tunewright.models.naming import published_name
from tunewright.models.resolve import LocalModel
from tunewright.models.tokenizer import TextTokenizer
from tunewright.training.diagnosis.diagnosis import CannotTrain, Diagnosis, joint, summary
from tunewright.training.diagnosis.history import CURVE, DIAGNOSIS
from tunewright.training.diagnosis.rules import diagnose
from tunewright.training.engine.fast_paths import fit_engine
from tunewright.training.loop.callbacks import CurveRecorder
from tunewright.training.loop.distributed import gathered, use_all_threads
from tunewright.training.loop.encode import IGNORED, shown
from tunewright.training.loop.prepare import prepare
from tunewright.training.loop.soup_training import ADAPTER, Soup, average_adapters
from tunewright.training.loop.tracking import tracked
from tunewright.training.loop.trainer import adapted_modules, load_adapter, planned_steps

CHECKPOINTS = "checkpoints"


def train_adapter(spec: Spec, split: Path, output: Output) -> None:
    """Train an adapter on a dataset: write `adapter/`, `chat_template.jinja`, `curve.jsonl`, `diagnosis.json` and
    `audit.txt`.

    In a distributed training every process runs this; only the leader writes.
    """
    quiet_libraries()
    training = prepare(spec, split, output.path / CHECKPOINTS)
    base, train, part = training.base, training.rows, training.validation
    assert isinstance(base, LocalModel)
    audit = shown(train, TextTokenizer(base.folder))
    for line in audit:
        say(f"  {line}")
    _report_processes()
    trained = train_soup(training, output)
    if trained is None:
        return
    adapters, curve, diagnoses = trained
    known_as = published_name(spec.model, spec.folder)
    average_adapters([adapter / ADAPTER for adapter in adapters], output.path / ADAPTER, known_as)
    (output.path / "chat_template.jinja").write_text(base.template.source, "utf-8")
    (output.path / "audit.txt").write_text("\n".join(audit) + "\n", "utf-8")
    tuned = load_adapter(spec, base.folder, output.path / ADAPTER)
    write_json(output.path / "adapted.json", adapted_modules(tuned))
    engine = fit_engine(tuned, train)
    measured = last_kept(curve, adapters)
    if part and not measured:
        score = part.score(tuned, engine)
        measured = {"primary_metric": score.primary_metric, "validation_loss": score.loss}
    output.result = figures(curve, measured) | {
        "trained_parameters": sum(value.numel() for name, value in tuned.named_parameters() if "lora_" in name),
        "precision": compute_type(spec.train.precision),
        "processes": process_count(),
        "left_out": engine.reasons,
        "tokens": sum(len(row["input_ids"]) for row in train),
        "diagnosis": [each.code for each in diagnoses],
        "longest_answer": max(sum(label != IGNORED for label in row["labels"]) for row in train),
        "supervised_tokens": sum(label != IGNORED for row in train for label in row["labels"]),
        "template_sha256": base.template.sha256,
    }
    # Last, so that an error above does not cost the training.
    shutil.rmtree(training.home)


def train_soup(training: Soup, output: Output) -> tuple[list[Path], list[dict[str, Any]], list[Diagnosis]] | None:
    """Train all adapters or encoders of a soup, and write `curve.jsonl` and `diagnosis.json`.

    Returns: (each model's folder, the rows of all curves, the diagnoses); None in a process that is not the leader,
    which has nothing more to do.
    """
    spec, planned = training.spec, planned_steps(training.spec, len(training.rows))
    with track("train", planned * spec.train.num_seeds, "steps") as tracker, tracked(spec) as tracking:
        try:
            adapters = [
                training.train(number, tracker, [CurveRecorder(tracking, number * planned)])
                for number in range(spec.train.num_seeds)
            ]
        except CannotTrain as error:
            tracking.diagnosis([error.diagnosis])
            raise
        _, *others = gathered(peak_memory_mb())
        if not is_leader():
            return None
        use_all_threads()
        output.others_mb = sum(others)
        curves = [read_jsonl(adapter / CURVE) for adapter in adapters]
        diagnoses = joint([diagnose(training.history(curve, ended=True)) for curve in curves])
        tracking.diagnosis(diagnoses)
    for line in summary(diagnoses):
        say(f"  {line}")
    write_json(
        output.path / DIAGNOSIS,
        {"diagnoses": [asdict(each) for each in diagnoses], **training.history([], ended=True).json()},
    )
    curve = [row for rows in curves for row in rows]
    write_jsonl(output.path / CURVE, curve)
    return adapters, curve, diagnoses


def figures(curve: Sequence[Mapping[str, Any]], measured: Mapping[str, Any] | None) -> dict[str, Any]:
    """The figures of a curve that the manifest shows.

    Args:
        measured: `primary_metric` and `validation_loss` of the model that was kept; None without a validation part.
    """
    losses = [row["loss"] for row in curve if "loss" in row]
    return {
        "steps": len(losses),
        "first_loss": round(losses[0], 4),
        "last_loss": round(losses[-1], 4),
        "validation_primary_metric": measured["primary_metric"] if measured else None,
        "validation_loss": measured["validation_loss"] if measured else None,
    }


def last_kept(curve: Sequence[Mapping[str, Any]], adapters: Sequence[Path]) -> Mapping[str, Any] | None:
    """The measurement of the model that was kept; None if several models were averaged or none was measured."""
    return next((row for row in reversed(curve) if row.get("kept")), None) if len(adapters) == 1 else None


def _report_processes() -> None:
    """Report how many processes and threads train, and GPUs that stay idle."""
    import torch

    if share()[1] > 1:
        say(f"  {process_count()} processes share each batch, {threads()} threads each")
    if process_count() == 1 and torch.cuda.device_count() > 1:
        say(f"  one of {torch.cuda.device_count()} GPUs is used; for all: tunewright recipes launch multi-gpu")
