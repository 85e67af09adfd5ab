"""Compiles the C sources beside it: `python compile.py`, without the package or anything else.

The build does it too (`tools/build_hook.py`). A machine that has no compiler, or another processor's architecture, gets
no library, and OpenVINO runs every model there.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("kernels.h", "decoder.c", "encoder.c")
LIBRARY = HERE / "kernels.vnni.so"
"""With two dots, so that Python does not take it for a module."""
FEATURES = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx2", "fma", "bmi2")
"""What the compiler may use of a processor, by its own names."""
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=gnu11", "-O3", "-mprefer-vector-width=512", "-fwrapv", "-shared", "-fPIC", "-pthread")


def source_hash() -> str:
    """Of the source and the flags that lie here; the library tells which ones it was compiled from."""
    read = [HERE / name for name in (*SOURCES, Path(__file__).name)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in read)).hexdigest()[:16]


def compiled() -> str | None:
    """Compile the library.

    Returns: why there is none now; None if there is one.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"it is for Linux on x86-64, and this is {sys.platform} on {platform.machine()}"
    named = os.environ.get("CC") or next(filter(shutil.which, _COMPILERS), None)
    if not named:
        return "there is no C compiler; in Debian, type: apt install gcc libc6-dev"
    asked = [*_FLAGS, *(f"-m{name}" for name in FEATURES), f'-DSOURCE_HASH="{source_hash()}"']
    fresh = None
    try:
        with tempfile.NamedTemporaryFile(prefix=".", suffix=".so", dir=HERE, delete=False) as file:
            fresh = Path(file.name)
        units = [str(HERE / name) for name in SOURCES if name.endswith(".c")]
        command = [*shlex.split(named), *asked, "-o", str(fresh), *units, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{named} could not compile it: {done.stderr.strip()[-500:]}"
        fresh.chmod(0o755)
        fresh.replace(LIBRARY)  # a running process keeps the old one
    except (OSError, ValueError) as error:
        return f"{named} could not be run: {error}"
    finally:
        if fresh:
            fresh.unlink(missing_ok=True)
    return None


if __name__ == "__main__":
    if reason := compiled():
        print(f"note: no kernels of our own on CPUs: {reason}. OpenVINO runs the models.")
