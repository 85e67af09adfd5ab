"""Write locks/: all that Tunewright can install, at the versions of constraints.txt, with the hashes of their files.

    python tools/lock.py

uv resolves for every platform and every Python from 3.11 on; pip installs what it finds. The index is the one that pip
is set up with. What constraints.txt does not pin is taken at its newest version, so pin it there, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = {
    "all.txt": ("pyproject.toml", "--all-extras", "--group", "build"),
    "build.txt": ("--group", "build"),
}
"""Each lock, and what uv makes it of: everything, and what must be there before anything can be built."""
_HEAD = "# Made by `make lock` from pyproject.toml and constraints.txt. See locks/README.md.\n"
_INDEX = re.compile(r"^[\w.:-]+\.index-url='(.+)'$", re.MULTILINE)


def lock(name: str) -> str:
    """The text of a lock.

    Raises:
        CalledProcessError: uv can't resolve it, and has said why.
    """
    # In a file of its own, because uv keeps the versions that it finds in the one it writes.
    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / name
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            *LOCKS[name],
            "--universal",
            "--python-version",
            "3.11",
            "--constraint",
            "constraints.txt",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
            "--quiet",
            "--output-file",
            str(written),
        ]
        subprocess.run(command, cwd=ROOT, env=os.environ | _index(), check=True)
        return _HEAD + written.read_text("utf-8")


def _index() -> dict[str, str]:
    """The index that pip is set up with, in uv's words; nothing where it is the usual one."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    found = _INDEX.search(subprocess.run(pip, capture_output=True, text=True, check=True).stdout)
    return {"UV_DEFAULT_INDEX": found[1]} if found else {}


def main() -> int:
    for name in LOCKS:
        try:
            text = lock(name)
        except subprocess.CalledProcessError as error:
            return error.returncode
        (ROOT / "locks" / name).write_text(text, "utf-8")
        print(f"locks/{name}: {len(re.findall('==', text))} packages, {text.count('--hash')} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
