"""Whether the licences of all that runs with Tunewright are ones that we accept.

    python tools/licences.py

It looks at what is installed here of the package's requirements, in all extras but those for developing. A licence is
accepted where it is on the list below: those that let anybody use, change and sell what contains them, with no duty but
to name the authors, and weak copyleft, whose duties end at its own files. A package that names its licence in no way a
program can read, or one that is not on the list, needs a line among the exceptions, with the reason.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_DEVELOPING = ("dev", "supply")
"""Extras that nobody installs to use the package."""
ACCEPTED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "HPND",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "Zlib",
    }
)
"""SPDX's identifiers (spdx.org/licenses)."""
EXCEPTIONS = {
    "huey": ("MIT", "in its LICENSE file"),
    "onnxruntime-genai": ("MIT", "it writes MIT License, which is not SPDX's word"),
    "protobuf": ("BSD-3-Clause", "it writes 3-Clause BSD License"),
    "psycopg": ("LGPL-3.0-only", "imported as it is, and can be exchanged; only for a store on PostgreSQL"),
    "psycopg-binary": ("LGPL-3.0-only", "the compiled half of psycopg; the same holds for it"),
    "pypdfium2": (
        "BSD-3-Clause OR Apache-2.0",
        "PDFium's own parts are listed in its BUILD_LICENSES, all of such kind",
    ),
    "ray": ("Apache-2.0", "it writes Apache 2.0"),
    "skops": ("MIT", "in its LICENSE file"),
    "transformers": ("Apache-2.0", "it writes Apache 2.0 License"),
}
"""The licence of a package that is not on the list, or that it does not name readably, and why it is accepted."""
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",  # of two or three clauses: both are accepted
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def runtime(name: str, skipped: tuple[str, ...] = ()) -> dict[str, PackageMetadata]:
    """What is installed of all that a package may need, whatever extra asks for it, itself aside; by its name.

    Args:
        skipped: extras of the package that are not looked at.
    """
    found: dict[str, PackageMetadata] = {}
    own = distribution(name)
    extras = set(own.metadata.get_all("Provides-Extra") or ()) - set(skipped)
    waiting = [(name, extra) for extra in ("", *extras)]
    seen = set(waiting)
    while waiting:
        parent, extra = waiting.pop()
        try:
            there = distribution(parent)
        except PackageNotFoundError:  # for another platform, or of an extra that is not installed
            continue
        found[parent] = there.metadata
        for text in there.requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                more = [(canonicalize_name(wanted.name), each) for each in ("", *wanted.extras)]
                waiting += [each for each in more if each not in seen]
                seen.update(more)
    del found[name]
    return found


def licence(metadata: PackageMetadata) -> str:
    """What a package says of its licence: SPDX's expression, or what its other fields come to; "" where it says nothing
    that can be read."""
    for field in ("License-Expression", "License"):
        try:
            return str(canonicalize_license_expression(metadata[field] or ""))
        except InvalidLicenseExpression:
            continue
    named = [each.split(" :: ")[-1] for each in metadata.get_all("Classifier") or () if each.startswith("License :: ")]
    named = [each for each in named if each not in ("OSI Approved", "DFSG approved")]
    if not named or any(each not in _CLASSIFIERS for each in named):
        return ""
    return " AND ".join(sorted({_CLASSIFIERS[each] for each in named}))


def accepted(expression: str) -> bool:
    """Whether an SPDX expression is on the list: of what stands on both sides of an AND both, of an OR one."""
    return bool(expression) and all(
        any(each.strip(" ()") in ACCEPTED for each in part.split(" OR ")) for part in expression.split(" AND ")
    )


def faults(packages: dict[str, PackageMetadata]) -> list[str]:
    """A sentence for each package whose licence is neither on the list nor an exception, and for each exception that is
    not needed."""
    said = []
    for name, metadata in sorted(packages.items()):
        own, (excepted, _) = licence(metadata), EXCEPTIONS.get(name, ("", ""))
        if accepted(own):
            if excepted:
                said.append(f"{name} needs no exception: its licence is {own}.")
        elif not excepted:
            said.append(f"{name}: {own or 'it names no licence that can be read'}.")
        elif own and own != excepted:
            said.append(f"{name}: {own}, and the exception is for {excepted}.")
    return said


def main() -> int:
    packages = runtime("tunewright", _DEVELOPING)
    if said := faults(packages):
        print("Licences that are not accepted (tools/licences.py):", *said, sep="\n  ", file=sys.stderr)
        return 1
    print(f"The licences of {len(packages)} packages are accepted.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
