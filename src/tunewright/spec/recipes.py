"""Recipes: the settings for one base model on one class of hardware, shipped as files that a person can read.

A recipe is the part of a spec that the hardware decides, `model` and `train`. It lies over a project's spec.
"""

from __future__ import annotations

import difflib
from importlib import resources

from tunewright.errors import UserError


def recipe_names() -> list[str]:
    """The names of all recipes, in order."""
    folder = resources.files("tunewright") / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """A recipe as it is written, comments and all.

    Raises:
        UserError: there is none of this name.
    """
    if name not in recipe_names():
        close = difflib.get_close_matches(name, recipe_names(), n=1)
        raise UserError(
            f"There is no recipe '{name}'.", fix=f"Did you mean '{close[0]}'?" if close else "See: tunewright recipes ls"
        )
    return (resources.files("tunewright") / "recipes" / f"{name}.yaml").read_text("utf-8")
