"""A project that was run to its end, without a training: each step's folder holds next to nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.evaluation.scenario import candidate, compared, evidence_of
from tunewright.config import Spec
from tunewright.core.artifacts import atomic_folder, read_manifest, write_json
from tunewright.evaluation.report.page import verdict_data
from tunewright.evaluation.verdict.decision import decide
from tunewright.pipeline.fingerprint import fingerprint
from tunewright.pipeline.runner import point_latest
from tunewright.pipeline.steps import STEPS, steps_to

PARITY = {"passed": True, "failures": []}


def made_runs(spec: Spec, runs: Path, *, share: float = 0.97, targets: tuple[dict[str, Any], ...] = ()) -> None:
    """Bring a project up to date.

    Args:
        share: of its answers that are right.
        targets: what the verdict's targets are to be, in place of what they are.
    """
    contents: dict[str, str] = {}
    for step in steps_to(spec, "bundle"):
        provenance = fingerprint(spec, step, {name: contents[name] for name in step.inputs_of(spec)})
        sources = {key.removeprefix("source."): hash_ for key, hash_ in provenance.items() if key.startswith("source.")}
        folder = runs / f"{step.name}-{provenance['fingerprint'][:12]}"
        with atomic_folder(
            folder,
            kind=step.name,
            fingerprint=provenance["fingerprint"],
            spec_sha256=provenance["spec_sha256"],
            inputs=sources,
            seed=0,
            code_version=provenance["code_version"],
        ) as output:
            (output.path / "weights.bin").write_bytes(b"0" * 4096)
            if step is STEPS["verdict"]:
                write_json(output.path / "verdict.json", _verdict(spec, share, targets))
        manifest = read_manifest(folder)
        assert manifest
        contents[step.name] = manifest.content
        point_latest(runs, step.name, folder)


def _verdict(spec: Spec, share: float, targets: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    evidence = evidence_of(candidate(share), candidate(0.7))
    comparison = compared(spec, evidence)
    verdict = decide(spec, comparison, evidence, parity_passed=True)
    data = verdict_data(spec, comparison, verdict, PARITY)
    if targets:
        data["verdict"] = asdict(verdict) | {"targets": list(targets)}
    return data
