"""The outputs of a project that are deployed: the latest bundle, and the outputs it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest
from tunewright.core.errors import UserError
from tunewright.economics.cost import Service
from tunewright.evaluation.verdict.decision import SERVES
from tunewright.inference.bundle import BundleInfo, read_info
from tunewright.project import Project

STEPS = ("split", "train", "export", "parity", "verdict", "bundle")
"""The steps whose outputs a deployment needs."""


@dataclass(frozen=True)
class Outputs:
    """The folders of one whole run, by step."""

    folders: dict[str, Path]

    @property
    def bundle(self) -> Path:
        return self.folders["bundle"]

    @property
    def content(self) -> str:
        """The hash of the bundle."""
        manifest = read_manifest(self.bundle)
        assert manifest
        return manifest.content

    @cached_property
    def info(self) -> BundleInfo:
        return read_info(self.bundle)

    @cached_property
    def verdict(self) -> dict[str, Any]:
        return dict(json.loads((self.folders["verdict"] / "verdict.json").read_text("utf-8")))

    @property
    def served(self) -> dict[str, Any]:
        """The measurements of the served bundle: `latency`, `cost`, `scores`."""
        return dict(self.verdict["comparison"]["candidates"]["served"])

    def service(self, spec: Spec) -> Service:
        """The measured latencies of the served bundle."""
        latency = self.served["latency"]
        return Service(latency["mean_ms"] / 1000, latency["p95_ms"] / 1000, spec.goal.p95_ms / 1000)

    @property
    def replicas(self) -> int:
        """How many machines the verdict counts with."""
        return int(self.served["cost"]["replicas"] or 1)


def outputs_of(project: Project) -> Outputs:
    """The latest outputs of a project.

    Raises:
        UserError: there is no whole run, or the bundle was made from older outputs than the latest.
    """
    folders = {step: project.latest(step).resolve() for step in STEPS}
    manifests = {step: read_manifest(folder) for step, folder in folders.items()}
    whole = {step: manifest for step, manifest in manifests.items() if manifest}
    if missing := [step for step in STEPS if step not in whole]:
        raise UserError(
            f"This project has no whole run: {', '.join(missing)} is missing.",
            where=project.runs,
            fix="Make one: tunewright run …",
        )
    inputs = whole["bundle"].inputs
    if stale := [step for step in whole if inputs.get(step, whole[step].content) != whole[step].content]:
        raise UserError(
            f"The bundle was made before the last {' and '.join(stale)}.",
            where=folders["bundle"],
            fix="Bring it up to date: tunewright run …",
        )
    return Outputs(folders)


def require_worth(outputs: Outputs) -> None:
    """Refuse a bundle whose own verdict or parity speaks against serving it.

    Raises:
        UserError: the verdict is not to serve it, or it failed a parity gate.
    """
    decision = outputs.verdict["verdict"]["decision"]
    failed = outputs.verdict["parity"]["failures"]
    if failed:
        raise UserError(
            f"The served bundle failed its parity gates: {'; '.join(failed)}.",
            where=outputs.bundle,
            fix="Fix that first: tunewright run …; or deploy it all the same: --anyway",
        )
    if decision not in SERVES:
        raise UserError(
            f"The verdict is {decision}, not to serve this model.",
            where=outputs.folders["verdict"],
            why=outputs.verdict["verdict"]["sentence"],
            fix="To deploy it anyway: --anyway",
        )
