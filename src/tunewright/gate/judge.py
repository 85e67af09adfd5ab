"""Compares the verdict with the spec's targets, and checks that it belongs to the project as it is now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest
from tunewright.core.errors import UserError
from tunewright.economics.lifetimes import today
from tunewright.evaluation.verdict.outlived import ended_since
from tunewright.evaluation.verdict.targets import Target
from tunewright.pipeline.fingerprint import Sources, fingerprint, read_once
from tunewright.pipeline.runner import UpToDate, standing
from tunewright.project import Project


@dataclass(frozen=True)
class Gate:
    name: str
    """The spec's name."""
    decision: str
    sentence: str
    """The verdict's sentence, and one about an API that has ended since."""
    targets: list[Target]
    """The spec's targets, and last that the verdict is up to date."""
    lines: list[tuple[str, str]] = field(default_factory=list)
    """The page for the person who pays: a name and a sentence each."""

    @property
    def passed(self) -> bool:
        return all(target.met for target in self.targets)


def gate(spec: Spec, runs: Path | None = None) -> Gate:
    """Judge a project's last verdict. This needs only the manifest of each step's output, and `verdict.json`.

    Args:
        runs: the folder of the outputs; `runs` beside the spec by default.

    Raises:
        UserError: there is no verdict.
    """
    project = Project(spec.folder, runs)
    sources = read_once()
    standings = [standing(each, "bundle", project.runs, sources=sources, whole=False) for each in spec.each_candidate]
    # One base model has one verdict. It need not be the latest: the spec may have been changed back.
    by_verdict = {each.folders["verdict"].resolve(): each for each in standings if "verdict" in each.folders}
    folder = next(iter(by_verdict)) if by_verdict and not spec.candidates else project.latest("verdict").resolve()
    if not read_manifest(folder, whole=False):
        words = spec.project_arguments() + (f" --runs {quote(str(runs))}" if runs else "")
        raise UserError(
            "There is no verdict to judge.",
            where=project.runs,
            why="The gate runs nothing by itself.",
            fix=f"Type: tunewright gate {words} --update  (it brings the project up to date, trainings included)",
        )
    data = _read(folder / "verdict.json")
    verdict = data["verdict"]
    judged = by_verdict.get(folder) or _second_of(folder, standings)
    fresh, finding = _freshness(spec, judged, standings, project, sources)
    return Gate(
        spec.name,
        verdict["decision"],
        " ".join(filter(None, [verdict["sentence"], ended_since(data, today())])),
        [*(Target(**target) for target in verdict["targets"]), Target("up to date", fresh, finding)],
        [(line["name"], line["text"]) for line in data.get("payer", {}).get("lines", ())],
    )


def _read(file: Path) -> Mapping[str, Any]:
    try:
        data: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        raise UserError(
            "This verdict can't be read.",
            where=file,
            why="The file is missing or was cut.",
            fix="Bring the verdict's folder here again, or add --update.",
        ) from None
    return data


def _second_of(verdict: Path, standings: Sequence[UpToDate]) -> UpToDate | None:
    """The dearer part of a cascade, where the verdict is about a cascade and both parts are up to date; else None."""
    manifest = read_manifest(verdict, whole=False)
    inputs = manifest.inputs if manifest else {}
    parities = (read_manifest(folder, whole=False) for folder in verdict.parent.glob("parity-*"))
    parity = next((each for each in parities if each and each.content == inputs.get("parity")), None)
    parts = {
        manifest.content: each
        for each in standings
        if "parity" in each.folders and (manifest := read_manifest(each.folders["parity"], whole=False))
    }
    if parity is None or parity.inputs.get("first") not in parts:
        return None
    return parts.get(parity.inputs.get("second", ""))


def _freshness(
    spec: Spec, judged: UpToDate | None, standings: Sequence[UpToDate], project: Project, sources: Sources
) -> tuple[bool, str]:
    """(whether the verdict is up to date, why)."""
    nearest = judged or min(standings, key=lambda each: len(each.outdated))
    if not nearest.outdated:
        return bool(judged), "nothing changed since the verdict" if judged else (
            "the latest verdict belongs to other settings; the outputs of the current ones all exist (--update)"
        )
    names = ", ".join(step.name for step in nearest.outdated)
    candidate = spec.each_candidate[next(number for number, each in enumerate(standings) if each is nearest)]
    changed = _changed(candidate, nearest, project, sources) or "data, spec or tunewright"
    return False, f"{changed} changed since the verdict; these steps would run again: {names} (--update)"


def _changed(spec: Spec, state: UpToDate, project: Project, sources: Sources) -> str:
    """The inputs of the first outdated step that changed since its last output."""
    step = state.outdated[0]
    last = read_manifest(project.latest(step.name), whole=False)
    inputs = {name: read_manifest(state.folders[name], whole=False) for name in step.inputs_of(spec)}
    contents = {name: manifest.content for name, manifest in inputs.items() if manifest}
    now = fingerprint(spec, step, contents, sources)
    if last is None or last.fingerprint == now["fingerprint"]:
        return ""
    if last.code_version != now["code_version"]:
        return f"tunewright ({last.code_version}, here {now['code_version']})"
    current = {key.removeprefix("source."): value for key, value in now.items() if key.startswith("source.")}
    others = [name for name in current if last.inputs.get(name) != current[name]]
    return f"the input of the step {step.name} ({', '.join(others)})" if others else "the spec"
