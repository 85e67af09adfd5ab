"""The outputs of `infra/` that `azd up` wrote to `.azure/ENVIRONMENT/.env`, so that nobody has to type them.

Source: learn.microsoft.com/azure/developer/azure-developer-cli/manage-environment-variables (read 2026-11-28):
`.azure/config.json` names the default environment, and AZURE_ENV_NAME another one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tunewright.core.errors import UserError

_FOLDER = ".azure"


def written(*starts: Path) -> dict[str, str]:
    """The values of azd's nearest environment in or above some folders; empty if azd made none.

    Args:
        starts: searched in this order, each with the folders above it.

    Raises:
        UserError: the named environment does not exist, or a file can't be read.
    """
    for start in starts:
        for folder in (start.resolve(), *start.resolve().parents):
            config = folder / _FOLDER / "config.json"
            if config.is_file() and (name := _environment(config)):
                return _values(folder / _FOLDER / name / ".env")
    return {}


def _environment(config: Path) -> str | None:
    """The name of the environment to use."""
    if name := os.environ.get("AZURE_ENV_NAME"):
        return name
    try:
        settings = json.loads(config.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"This is not JSON: {error}.", where=config, fix="Type: azd env select NAME") from None
    # Azure's other tools use folders of this name too.
    return settings.get("defaultEnvironment") if isinstance(settings, dict) else None


def _values(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(
            "azd's environment has no values.",
            where=file,
            fix="Make them: azd up; or choose another: azd env select NAME",
        ) from None
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): _plain(value.strip()) for name, _, value in pairs}


def _plain(value: str) -> str:
    """A value without its quotes; azd quotes as JSON does."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    return value
