"""What `azd up` wrote down, so that nobody types it: the outputs of `infra/`, in `.azure/ENVIRONMENT/.env`.

Source: learn.microsoft.com/azure/developer/azure-developer-cli/manage-environment-variables (read 2026-11-28): the
default environment is named by `.azure/config.json`, another one by AZURE_ENV_NAME.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tunewright.core.errors import UserError

_FOLDER = ".azure"


def written(*starts: Path) -> dict[str, str]:
    """The values of the environment that is nearest above some folders; empty where azd made none.

    Args:
        starts: looked at in this order, each with the folders above it.

    Raises:
        UserError: the environment that is named is not there, or a file can't be read.
    """
    for start in starts:
        for folder in (start.resolve(), *start.resolve().parents):
            config = folder / _FOLDER / "config.json"
            if config.is_file() and (name := _environment(config)):
                return _values(folder / _FOLDER / name / ".env")
    return {}


def _environment(config: Path) -> str | None:
    """The name of the environment that is meant."""
    if named := os.environ.get("AZURE_ENV_NAME"):
        return named
    try:
        told = json.loads(config.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"This is not JSON: {error}.", where=config, fix="Type: azd env select NAME") from None
    # Azure's own tools keep other things in folders of this name.
    return told.get("defaultEnvironment") if isinstance(told, dict) else None


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
    """A value without its quotes; azd writes them as JSON does."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    return value
