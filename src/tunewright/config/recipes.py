"""Recipes: settings for one base model on one class of hardware, shipped as readable files.

A recipe holds the part of a spec that depends on the hardware, `model` and `train`. It overrides a project's spec.
"""

from __future__ import annotations

from importlib import resources

from tunewright.core.errors import UserError, did_you_mean

_LAUNCH = "accelerate"
"""Folder of the files that tell accelerate how to start several processes."""


def recipe_names() -> list[str]:
    """The names of all recipes, in order."""
    return _names("")


def launch_names() -> list[str]:
    """The names of all files for `accelerate launch`, in order."""
    return _names(_LAUNCH)


def recipe_text(name: str) -> str:
    """The text of a recipe, comments included.

    Raises:
        UserError: there is no recipe of this name.
    """
    if name not in recipe_names():
        fix = did_you_mean(name, recipe_names(), "See: tunewright recipes ls")
        raise UserError(f"There is no recipe '{name}'.", fix=fix)
    return _text(name)


def launch_text(name: str) -> str:
    """The text of a file for `accelerate launch --config_file`.

    Raises:
        UserError: there is no file of this name.
    """
    if name not in launch_names():
        fix = f"Type one of: {', '.join(launch_names())}"
        raise UserError(f"There is no launch file '{name}'.", fix=fix)
    return _text(f"{_LAUNCH}/{name}")


def _names(folder: str) -> list[str]:
    files = (resources.files("tunewright") / "recipes" / folder).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def _text(name: str) -> str:
    return (resources.files("tunewright") / "recipes" / f"{name}.yaml").read_text("utf-8")
