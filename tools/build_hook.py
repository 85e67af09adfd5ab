"""Compiles the kernels when the package is built or installed (https://hatch.pypa.io/latest/plugins/build-hook/custom/,
2026-12-01). Without a compiler there is a package without them."""

from __future__ import annotations

import re
import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_COMPILING = "src/tunewright/inference/runtimes/vnni/compile.py"


class KernelsHook(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        compiling = runpy.run_path(str(Path(self.root, _COMPILING)))
        if reason := compiling["compiled"]():
            self.app.display_warning(f"No kernels of our own on CPUs: {reason}.")
            return
        build_data["artifacts"].append(f"/{compiling['LIBRARY'].relative_to(self.root).as_posix()}")
        if version == "standard":
            # It is loaded by ctypes, so any Python will do.
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform(Path(self.root, compiling['LIBRARY']))}"


def _platform(library: Path) -> str:
    """The platform of the wheel: with glibc the oldest one that has all that the library needs of it (PEP 600), which
    the index asks for; else the platform of this machine."""
    needed = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library.read_bytes())]
    if needed:
        return f"manylinux_2_{max(needed)}_x86_64"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
