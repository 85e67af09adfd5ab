"""Registers a bundle as a model of the workspace, without running the steps that would make it."""

from __future__ import annotations

from pathlib import Path

from tunewright.backends.azure import assets
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import connect
from tunewright.backends.azure.registry import Registered, enter
from tunewright.config import Spec
from tunewright.core.artifacts import sha256_tree


def entered(spec: Spec, bundle: Path) -> Registered:
    """The first version of a project's model."""
    at, content, tags = connect(spec), sha256_tree(bundle)[0], {TAG: spec.name}
    output = assets.data_asset(at, f"{TAG}-{spec.name}-bundle", content[: assets.DIGITS], bundle, tags)
    return enter(at, f"{TAG}-{spec.name}", [], content, output, tags=tags, properties={}, description="a test's")
