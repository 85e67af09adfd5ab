"""What serving takes, for each runtime: the size of its environment, the time from start to ready, and memory.

    python bench/footprint.py BUNDLE...        # bundles of the runtimes that are to be measured

The environment is made anew from infra/docker/, as the images make theirs. Starts: the median of five.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx

from tunewright.core.processes import free_port
from tunewright.inference.bundle import read_info

REPOSITORY = Path(__file__).resolve().parents[1]
STARTS = 5


def environment(runtime: str, folder: Path) -> Path:
    """A Python that has what the image of a runtime has."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    docker = REPOSITORY / "infra" / "docker"
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lists: list[str | Path] = ["--requirement", docker / "serve.txt", "--requirement", docker / f"{runtime}.txt"]
    subprocess.run([*pip, "--constraint", REPOSITORY / "constraints.txt", *lists], check=True)
    subprocess.run([*pip, "--no-deps", REPOSITORY], check=True)
    # The image removes what is for other devices too.
    for file in folder.glob("lib/python*/site-packages/openvino/libs/*"):
        if re.fullmatch(r"libopenvino_intel_[gn]pu_plugin\.so|cache\.json", file.name):
            file.unlink()
    # pip has done its work, and bytecode is made again: neither counts.
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools"], check=True)
    return python


def megabytes(folder: Path) -> float:
    return (
        sum(
            path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"
        )
        / 1e6
    )


def started(python: Path, bundle: Path) -> tuple[float, float]:
    """Seconds from start to ready, and megabytes of memory then."""
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [python, "-m", "tunewright", "serve", bundle, "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/ready", timeout=1).raise_for_status()
                break
            except httpx.TransportError:
                if process.poll() is not None:
                    raise SystemExit(f"{bundle} can't be served from {python}") from None
                time.sleep(0.01)
        took = time.perf_counter() - began
        status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return took, memory / 1e3
    finally:
        process.terminate()
        process.wait()


def main(bundles: list[str]) -> None:
    for bundle in map(Path, bundles):
        runtime = read_info(bundle).runtime.removesuffix("-lora")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / runtime
            python = environment(runtime, folder)
            started(python, bundle)  # bytecode is made
            starts = [started(python, bundle) for _ in range(STARTS)]
            seconds, memory = zip(*starts, strict=True)
            print(
                f"{runtime:<12} environment {megabytes(folder):4.0f} MB, {median(memory):.0f} MB of memory, "
                f"ready after {median(seconds):.1f} s (of {STARTS} starts {max(seconds):.1f} s at most)"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
