"""A bundle as a model of the workspace, without the steps that would have made it."""

from __future__ import annotations

from pathlib import Path

from tunewright.artifacts import sha256_tree
from tunewright.places.azure import assets
from tunewright.places.azure.connection import connect
from tunewright.places.azure.place import TAG
from tunewright.places.azure.registry import Registered, enter
from tunewright.spec import Spec


def entered(spec: Spec, bundle: Path) -> Registered:
    """The first version of a project's model."""
    at, content, tags = connect(spec), sha256_tree(bundle)[0], {TAG: spec.name}
    output = assets.data_asset(at, f"{TAG}-{spec.name}-bundle", content[: assets.DIGITS], bundle, tags)
    return enter(at, f"{TAG}-{spec.name}", [], content, output, tags=tags, properties={}, description="a test's")
