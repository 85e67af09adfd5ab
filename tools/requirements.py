"""What pyproject.toml asks for, a requirement a line: of the package, and of those of its extras that are named.

    python tools/requirements.py [EXTRA …]
    python tools/requirements.py --only EXTRA …

For pip, which takes hashes only where the package itself is not among what it installs. Python alone is enough.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
_ITSELF = re.compile(r"tunewright\[(.+)\]")


def of_extra(project: dict[str, Any], extra: str) -> Iterator[str]:
    """The requirements of an extra; where it names other extras of the package, theirs.

    Args:
        project: the table of that name in pyproject.toml.
    """
    for requirement in project["optional-dependencies"][extra]:
        if itself := _ITSELF.fullmatch(requirement):
            for other in itself[1].split(","):
                yield from of_extra(project, other)
        else:
            yield requirement


def main(words: list[str]) -> int:
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    extras = [word for word in words if word != "--only"]
    if unknown := [extra for extra in extras if extra not in project["optional-dependencies"]]:
        print(f"There is no extra {' or '.join(unknown)} in {PYPROJECT}.", file=sys.stderr)
        return 2
    own = [] if "--only" in words else project["dependencies"]
    print(*dict.fromkeys([*own, *(each for extra in extras for each in of_extra(project, extra))]), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
