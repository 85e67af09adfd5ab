"""How much of each package the tests ran, worst first.

    python tools/coverage_by_package.py FILE

FILE is what `coverage json` writes. A package's share counts its lines and its branches, as coverage's own totals do;
modules that lie in no package are one row. `make coverage` measures and then calls this. (A tool called coverage.py
would hide the library of that name from the others here.)
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SOURCES = "src/tunewright/"
_TOP = "(top level)"


@dataclass
class Package:
    name: str
    modules: int = 0
    lines: int = 0
    missed: int = 0
    """Lines that no test ran."""
    branches: int = 0
    branches_missed: int = 0

    @property
    def share(self) -> float:
        """What was run, in percent."""
        there = self.lines + self.branches
        return 100 * (1 - (self.missed + self.branches_missed) / there) if there else 100.0

    def add(self, summary: dict[str, Any]) -> None:
        self.modules += 1
        self.lines += summary["num_statements"]
        self.missed += summary["missing_lines"]
        self.branches += summary.get("num_branches", 0)
        self.branches_missed += summary.get("missing_branches", 0)


def packages(report: dict[str, Any]) -> list[Package]:
    """The packages of a report, worst first, and all of them together at the end."""
    found: dict[str, Package] = {}
    whole = Package("all")
    for file, measured in report["files"].items():
        package, below, _ = file.rpartition(_SOURCES)[2].partition("/")
        name = package if below else _TOP
        for each in (found.setdefault(name, Package(name)), whole):
            each.add(measured["summary"])
    return [*sorted(found.values(), key=lambda package: (package.share, package.name)), whole]


def table(rows: list[Package]) -> str:
    width = max(len(row.name) for row in rows)
    head = f"{'package':<{width}}  modules   lines  missed  branches  missed  covered"
    return "\n".join(
        [
            head,
            *(
                f"{row.name:<{width}}  {row.modules:>7} {row.lines:>7} {row.missed:>7}  {row.branches:>8} "
                f"{row.branches_missed:>7} {row.share:>6.1f} %"
                for row in rows
            ),
        ]
    )


def main(words: list[str]) -> int:
    if len(words) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    print(table(packages(json.loads(Path(words[0]).read_text("utf-8")))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
