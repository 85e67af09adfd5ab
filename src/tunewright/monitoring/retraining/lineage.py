"""What a bundle came from, told by the manifests."""

from __future__ import annotations

from pathlib import Path

from tunewright.core.artifacts import read_manifest
from tunewright.pipeline.steps import STEPS


def made_of(bundle: Path) -> dict[str, Path]:
    """The outputs that a bundle was made of, directly or not, by step; those that are gone are left out.

    Args:
        bundle: the step's output, or the bare bundle in an export.
    """
    bundle = bundle.resolve()
    top = bundle if read_manifest(bundle) else bundle.parent
    found: dict[str, Path] = {}
    left = [top]
    while left:
        folder = left.pop()
        manifest = read_manifest(folder)
        if manifest is None:
            continue
        found.setdefault(manifest.kind, folder)
        for step, content in manifest.inputs.items():
            if step in STEPS and step not in found:
                left += [each for each in top.parent.glob(f"{step}-*") if _content(each) == content][:1]
    return found


def _content(folder: Path) -> str | None:
    manifest = read_manifest(folder)
    return manifest.content if manifest else None
