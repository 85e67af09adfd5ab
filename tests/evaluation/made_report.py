"""A report on made-up evidence, whose texts are hostile HTML."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.conftest import make_spec
from tests.evaluation.scenario import candidate, compared, evidence_of
from tunewright.core.artifacts import atomic_folder, write_json, write_jsonl
from tunewright.data.dataset import Dataset, load_dataset, save_dataset
from tunewright.evaluation.evidence import by_test
from tunewright.evaluation.report.model_card import write_card
from tunewright.evaluation.report.page import verdict_data, write_report
from tunewright.evaluation.verdict.decision import decide
from tunewright.evaluation.verdict.details import gather_details
from tunewright.inference.runtimes.beside import BESIDE
from tunewright.tasks import Example, Meta
from tunewright.training.diagnosis.diagnosis import Diagnosis
from tunewright.training.diagnosis.history import CURVE, DIAGNOSIS, ENCODER

ATTACK = '<script>alert("1")</script><img src=http://evil.example/x onerror=alert(1)>'
PARITY = {
    "passed": True,
    "failures": [],
    "template_sha256": "0" * 64,
    "request": ATTACK,
    "reply": "refund",
    "chain": [
        {
            "candidate": "served",
            "agreement": 1.0,
            "primary_metric": 0.7,
            "lost": {"value": 0.0, "low": 0.0, "high": 0.0},
            "max_confidence_gap": 0.01,
            "examples": 40,
        }
    ],
}


def made_report(root: Path, share: float = 0.7, trained: str = "", cut_on: str = "", **changes: Any) -> Path:
    """The folder of a report, with its model card.

    Args:
        root: an empty folder.
        share: of the served model's answers that are right.
        trained: the key of the model as it was trained, an encoder with a linear model beside it; by default nothing
            says so.
        cut_on: a second test split, on which all replies of the API were cut.
        changes: of the spec.
    """
    evidence = evidence_of(candidate(share), candidate(0.6)) | {"api": candidate(0.8, splits=("test",))}
    evidence |= {trained: candidate(share)} if trained else {}
    if cut_on:
        evidence = {key: [*records, *candidate(share, splits=(cut_on,))] for key, records in evidence.items()}
        evidence["api"] = [replace(each, cut=each.split == cut_on) for each in evidence["api"]]
    steps = {}
    for name in ("check", "split", "train", "export", "evaluate", "parity"):
        steps[name] = root / name
        with atomic_folder(
            steps[name], kind=name, fingerprint="f", spec_sha256="s", inputs={}, seed=0, code_version="1"
        ) as out:
            if name == "check":
                finding = {"code": "D007", "severity": "warning", "what": ATTACK, "fix": "Look.", "examples": []}
                examined = {"rows": {}, "quarantined": 0, "scores": {}, "findings": [finding]}
                write_json(out.path / "findings.json", examined)
            if name == "export":
                (out.path / "bundle" / "openvino").mkdir(parents=True)
            if name == "split":
                tests = {
                    split: [Example.of(f"{ATTACK} {r.id}", r.gold, Meta(id=r.id)) for r in asked]
                    for split, asked in by_test(evidence["served"]).items()
                }
                save_dataset(out.path, Dataset([], [], tests))
            if name == "train":
                losses = [(1, 2.0), (2, 1.0), (3, 0.5)]
                curve = [{"seed_number": seed, "step": step, "loss": loss} for seed in (0, 1) for step, loss in losses]
                measured = {
                    "seed_number": 1,
                    "step": 2,
                    "validation_loss": 1.5,
                    "primary_metric": 0.25,
                    "right": {"refund": 1},
                }
                write_jsonl(out.path / CURVE, [] if trained == "linear" else [*curve, measured])
                result = Diagnosis("T005", "overfitting", "By heart.", ATTACK, "Type: train.epochs=1")
                out.result = {"batch_size": 32}
                if trained == "encoder":
                    (out.path / ENCODER / BESIDE).mkdir(parents=True)
                write_json(out.path / DIAGNOSIS, {"diagnoses": [vars(result)]})
    spec = make_spec(root, **{"traffic": {"requests_per_month": 10_000_000}, "apis": [{}], **changes})
    comparison = compared(spec, evidence)
    verdict = decide(spec, comparison, evidence, parity_passed=True)
    target = root / "verdict"
    target.mkdir()
    examples = {example.meta.id: example for example in load_dataset(steps["split"]).test_examples}
    data = verdict_data(spec, comparison, verdict, PARITY) | {
        "details": asdict(gather_details(spec, steps["check"], examples, evidence)),
        "baseline": {"source": "asked", "told": [f"It answered {ATTACK}"]},
    }
    write_report(spec, data, comparison, evidence, examples, steps, target)
    write_card(spec, data, steps, target / "model_card.md")
    return target
