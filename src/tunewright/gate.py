"""What a pipeline stops for: the latest verdict held against the spec's targets, in seconds. Nothing is run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tunewright.artifacts import read_manifest
from tunewright.errors import UserError
from tunewright.evaluate.targets import Target
from tunewright.pipeline import Step, outdated
from tunewright.spec import RUNS, Spec


@dataclass(frozen=True)
class Gate:
    decision: str
    sentence: str
    """The verdict."""
    targets: list[Target]
    """What the spec asks for, last that the verdict is of the project as it stands."""

    @property
    def passed(self) -> bool:
        return all(target.met for target in self.targets)


def gate(spec: Spec, runs: Path | None = None) -> Gate:
    """Judge what a project last came to.

    Args:
        runs: the folder of its outputs; `runs` beside the spec by default.

    Raises:
        UserError: there is no verdict.
    """
    home = runs or spec.folder / RUNS
    latest = home / "latest" / "verdict"
    if not read_manifest(latest):
        raise UserError(
            "There is no verdict to judge.", where=home, why="The gate runs nothing by itself.",
            fix=f"Type: tunewright gate {spec.folder} --update  (it brings the project up to date, trainings included)",
        )  # fmt: skip
    verdict = json.loads((latest / "verdict.json").read_text("utf-8"))["verdict"]
    stale = min((outdated(rung, "bundle", home) for rung in spec.rungs), key=len)
    targets = [*(Target(**target) for target in verdict["targets"]), Target("up to date", not stale, _found(stale))]
    return Gate(verdict["decision"], verdict["sentence"], targets)


def _found(stale: list[Step]) -> str:
    if not stale:
        return "nothing changed since the verdict"
    names = ", ".join(step.name for step in stale)
    return f"data, spec or tunewright changed since the verdict; these steps would run again: {names} (--update)"
