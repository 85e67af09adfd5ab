"""The report of the GPU self-test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from tunewright.core.version import __version__
from tunewright.models.device import driver_version

_LIBRARIES = ("transformers", "trl", "peft", "bitsandbytes", "accelerate", "vllm")


@dataclass(frozen=True)
class GpuRow:
    """One test of the self-test."""

    name: str
    passed: bool | None
    """None if the test can't run on this machine."""
    found: str
    """Figures, or the fault."""


@dataclass(frozen=True)
class GpuReport:
    """All tests of the self-test."""

    machine: str
    """GPU, driver and torch, in a line."""
    rows: Sequence[GpuRow]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no test failed."""
        return all(row.passed is not False for row in self.rows)

    def markdown(self) -> str:
        """The whole report, for people and issues."""
        signs = {True: "✓", False: "✗", None: "–"}
        failed = sum(row.passed is False for row in self.rows)
        verdict = f"{failed} of {len(self.rows)} failed" if failed else f"{len(self.rows)} rows, none failed"
        lines = [f"| {row.name} | {signs[row.passed]} | {row.found.replace('|', '/')} |" for row in self.rows]
        return "\n".join(
            [
                f"{self.machine}  ",
                f"{_libraries()}  ",
                f"{verdict}, {self.seconds:.0f} s",
                "",
                "| | | |",
                "|---|---|---|",
                *lines,
            ]
        )


def _libraries() -> str:
    found = [f"tunewright {__version__}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def machine(device: str) -> str:
    """The tested device, in a line.

    Args:
        device: "cuda" or "cpu".
    """
    import torch

    if device == "cpu":
        return f"CPU, torch {torch.__version__}"
    major, minor = torch.cuda.get_device_capability()
    free, total = torch.cuda.mem_get_info()
    driver = driver_version() or "unknown"
    return (
        f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, "
        f"capability {major}.{minor}, driver {driver}; torch {torch.__version__}, CUDA {torch.version.cuda}"
    )
