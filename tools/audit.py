"""Whether anything that locks/ can install has a known vulnerability.

    python tools/audit.py

pip-audit asks PyPI about each package at its version. Nothing is installed.

Exits with 1 where there is a vulnerability, and with 2 where the advisories can't be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[1] / "locks" / "all.txt"


def judged(answer: str, errors: str) -> tuple[list[str], str]:
    """What pip-audit says of packages. An index without advisories does not fail: it says of each package that it does
    not know it, and pip-audit passes over that.

    Args:
        answer: what it wrote in JSON; no JSON, where it failed.
        errors: what it wrote beside that.

    Returns: (a line for each vulnerability, why there is no full answer).
    """
    try:
        packages = json.loads(answer)["dependencies"]
    except ValueError:
        return [], (errors.strip() or "pip-audit gave no answer").splitlines()[-1]
    skipped = [each for each in packages if "skip_reason" in each]
    found = [
        f"{each['name']} {each['version']}: {fault['id']}; mended: {' or '.join(fault['fix_versions']) or 'nowhere'}"
        for each in packages
        for fault in each.get("vulns", ())
    ]
    return found, f"{len(skipped)} of {len(packages)}, such as: {skipped[0]['skip_reason']}" if skipped else ""


def main() -> int:
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        str(LOCK),
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner",
        "off",
        "--format",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found, fault = judged(done.stdout, done.stderr)
    for line in found:
        print(line)
    if fault:
        print(f"There are packages whose advisories can't be reached: {fault}", file=sys.stderr)
    elif not found:
        print("No package has a known vulnerability.")
    return 1 if found else 2 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
