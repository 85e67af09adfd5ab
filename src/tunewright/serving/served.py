"""What a path serves: a bundle, a project's champion, or what Azure ML mounts."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from tunewright.config import SPEC_FILE
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.inference.checksums import BUNDLE_FILE
from tunewright.project import Project, Traffic
from tunewright.serving.adapters import AdapterStore

_MOUNT_LEVELS = 3
"""Folders around a bundle that Azure ML mounts; see the rule model-mount in `backends/azure/rules.yaml`."""


def traffic_of(path: Path) -> Traffic:
    """What a server answers with: `Project.traffic` for a project, else only the folder of `bundle_of`.

    Raises:
        UserError: as `bundle_of`, or `serving.json` can't be read.
    """
    if not Project.is_one(path):
        return Traffic(bundle_of(path))
    project = Project(path)
    traffic = project.traffic()
    if traffic.champion == project.latest("export") / "bundle":
        judge = f"tunewright run {quote(str(path))}"
        say(f"This bundle is newer than the last verdict and has no threshold. To judge it: {judge}")
    return traffic


def bundle_of(path: Path) -> Path:
    """The bundle's folder for a path: a bundle itself; a project's champion, or its latest bundle if there is none; or
    the only bundle inside nested folders, as Azure ML mounts a model: in a folder of its name, in that one of its
    version, and in that the registered folder.

    Raises:
        UserError: the path is a file, or a project without a bundle.
    """
    if path.is_file():
        raise UserError("This is a file; a bundle or a project is a folder.", where=path, fix=_folder_of(path))
    if Project.is_one(path):
        return traffic_of(path).champion
    folder = path
    for _ in range(_MOUNT_LEVELS):
        if (folder / BUNDLE_FILE).is_file() or AdapterStore.is_one(folder):
            return folder
        inside = [each for each in folder.glob("[!.]*") if each.is_dir()]
        if len(inside) != 1:
            break
        (folder,) = inside
    return folder if (folder / BUNDLE_FILE).is_file() else path


def _folder_of(file: Path) -> str:
    """The folder to name in the place of a file: a spec's project, or its bundle where the spec has another name."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        return "Name its folder."
    folder = file.parent if file.name == SPEC_FILE else Project(file.parent, argument=quote(str(file))).champion()
    return f"Name this folder: {quote(str(folder))}"
