"""The verdict held against the spec's targets, and whether it is of the project as it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.config import RUNS, Spec
from tunewright.core.artifacts import LATEST, read_manifest
from tunewright.core.errors import UserError
from tunewright.evaluation.verdict.targets import Target
from tunewright.pipeline.fingerprint import Sources, fingerprint, read_once
from tunewright.pipeline.runner import UpToDate, standing


@dataclass(frozen=True)
class Gate:
    name: str
    """The spec's."""
    decision: str
    sentence: str
    """The verdict."""
    targets: list[Target]
    """What the spec asks for, last that the verdict is of the project as it stands."""
    lines: list[tuple[str, str]] = field(default_factory=list)
    """The page for the one who pays: a name and a sentence each."""

    @property
    def passed(self) -> bool:
        return all(target.met for target in self.targets)


def gate(spec: Spec, runs: Path | None = None) -> Gate:
    """Judge what a project last came to. Of each step's output the manifest is enough, and of the verdict's its
    `verdict.json`.

    Args:
        runs: the folder of its outputs; `runs` beside the spec by default.

    Raises:
        UserError: there is no verdict.
    """
    home = runs or spec.folder / RUNS
    latest = (home / LATEST / "verdict").resolve()
    sources = read_once()
    standings = [standing(each, "bundle", home, sources=sources, whole=False) for each in spec.each_candidate]
    # One base model has one verdict, which the latest need not be: the spec may have been changed back.
    of = {each.folders["verdict"].resolve(): each for each in standings if "verdict" in each.folders}
    folder = next(iter(of)) if of and not spec.candidates else latest
    if not read_manifest(folder, whole=False):
        raise UserError(
            "There is no verdict to judge.",
            where=home,
            why="The gate runs nothing by itself.",
            fix=f"Type: tunewright gate {spec.folder} --update  (it brings the project up to date, trainings included)",
        )
    data = _read(folder / "verdict.json")
    verdict = data["verdict"]
    fresh, found = _freshness(spec, of.get(folder) or _second_of(folder, standings), standings, home, sources)
    return Gate(
        spec.name,
        verdict["decision"],
        verdict["sentence"],
        [*(Target(**target) for target in verdict["targets"]), Target("up to date", fresh, found)],
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
    """The dearer part of the cascade that a verdict is of, where both parts are up to date; None of another verdict."""
    judged = read_manifest(verdict, whole=False)
    inputs = judged.inputs if judged else {}
    parities = (read_manifest(folder, whole=False) for folder in verdict.parent.glob("parity-*"))
    asked = next((each for each in parities if each and each.content == inputs.get("parity")), None)
    made = {
        manifest.content: each
        for each in standings
        if "parity" in each.folders and (manifest := read_manifest(each.folders["parity"], whole=False))
    }
    if asked is None or asked.inputs.get("first") not in made:
        return None
    return made.get(asked.inputs.get("second", ""))


def _freshness(
    spec: Spec, judged: UpToDate | None, standings: Sequence[UpToDate], home: Path, sources: Sources
) -> tuple[bool, str]:
    """(whether the verdict is of the project as it stands, what was found)."""
    nearest = judged or min(standings, key=lambda each: len(each.outdated))
    if not nearest.outdated:
        return bool(judged), "nothing changed since the verdict" if judged else (
            "the latest verdict is of other settings than these, whose outputs are all there (--update)"
        )
    names = ", ".join(step.name for step in nearest.outdated)
    candidate = spec.each_candidate[next(number for number, each in enumerate(standings) if each is nearest)]
    changed = _changed(candidate, nearest, home, sources) or "data, spec or tunewright"
    return False, f"{changed} changed since the verdict; these steps would run again: {names} (--update)"


def _changed(spec: Spec, found: UpToDate, home: Path, sources: Sources) -> str:
    """What the first step that would run again has got that its last output was not made of."""
    step = found.outdated[0]
    last = read_manifest(home / LATEST / step.name, whole=False)
    inputs = {name: read_manifest(found.folders[name], whole=False) for name in step.inputs_of(spec)}
    now = fingerprint(spec, step, {name: made.content for name, made in inputs.items() if made}, sources)
    if last is None or last.fingerprint == now["fingerprint"]:
        return ""
    if last.code_version != now["code_version"]:
        return f"tunewright ({last.code_version}, here {now['code_version']})"
    read = {key.removeprefix("source."): value for key, value in now.items() if key.startswith("source.")}
    others = [name for name in read if last.inputs.get(name) != read[name]]
    return f"what the step {step.name} reads ({', '.join(others)})" if others else "the spec"
