"""How long it takes to see that a bundle is what it was made with: python bench/verify.py BUNDLE [GIGABYTES]

Of a bundle, and of a file of random bytes as large as asked (2 GB), once it is in memory: seconds and GB/s, and of the
bundle the share of a server's start.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tunewright.core.artifacts import link_file
from tunewright.core.threads import cores
from tunewright.inference.checksums import CHECKSUMS, is_beside_weights, read_checksums, seal, sums
from tunewright.serving.child import running_server

_TRIES = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        shutil.copytree(sys.argv[1], bundle, copy_function=link_file)
        (bundle / CHECKSUMS).unlink(missing_ok=True)
        seal(bundle)
        of_bundle(bundle)
        of_file(Path(folder) / "file", float(sys.argv[2]) if len(sys.argv) > 2 else 2.0)


def of_bundle(bundle: Path) -> None:
    checksums = read_checksums(bundle)
    assert checksums
    total = sum(each.bytes for each in checksums.files.values())
    seconds = best(lambda: checksums.check(bundle, checksums.files))
    weights = sum(each.bytes for name, each in checksums.files.items() if not is_beside_weights(name))
    starts = {verify: best(partial(started, bundle, verify)) for verify in ("on", "off")}
    print(f"{cores()} cores, {total / 1e6:.0f} MB, {weights / 1e6:.0f} MB of it weights")
    print(f"verified in {seconds:.3f} s, {total / seconds / 1e9:.2f} GB/s")
    print(
        f"ready after {starts['on']:.2f} s, unverified {starts['off']:.2f} s: {seconds / starts['on']:.1%} of the start"
    )


def of_file(file: Path, size: float) -> None:
    """Args: size: in GB."""
    with file.open("wb") as stream:
        for _ in range(round(size * 1e9 / (1 << 20))):
            stream.write(os.urandom(1 << 20))
    seconds = best(lambda: sums({"file": file}))
    print(f"{file.stat().st_size / 1e9:.2f} GB in {seconds:.2f} s, {file.stat().st_size / seconds / 1e9:.2f} GB/s")


def best(work: Callable[[], object]) -> float:
    """The least of some tries, in seconds: the machine does other work too."""
    found = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def started(bundle: Path, verify: str) -> None:
    with running_server(bundle, "--verify", verify):
        pass


if __name__ == "__main__":
    main()
