"""Whether all that the images install is to be had as wheels for their Python and platform, as they pin it.

    python tools/image_wheels.py

pip's resolver is asked, with the index that pip is set up with; wheels are not fetched where the index gives their
metadata. Of environment markers pip looks at the Python it runs in, so run it in the Python of the images (3.12) to be
sure of those too.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tunewright.backends.azure.assets import requirements

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "infra" / "docker"
_GLIBC = 36
"""Of Debian 12, the older of the two that python:…-slim has stood on (packages.debian.org/bookworm/libc6, read
2026-11-28)."""
_PYTHON_OF_VLLM = "3.12"
"""In vllm/vllm-openai (the argument PYTHON_VERSION of github.com/vllm-project/vllm, docker/Dockerfile, 2026-11-28)."""
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC, 4, -1)] + ["manylinux2014_x86_64"]
_STAGE = re.compile(r"^FROM (\S+) AS (\S+)$", re.MULTILINE)
_LIST = re.compile(r"--requirement (\S+)")
_FROM_SOURCE = ("quotequail",)
"""Pure Python of which the index has no wheel; images build it."""


@dataclass(frozen=True)
class Image:
    name: str
    python: str
    lists: tuple[str, ...]
    """Texts of requirements."""
    constraints: str = ""


def served(dockerfile: str) -> list[Image]:
    """The images that serve: each stage of the Dockerfile that installs something, with what it is built on."""
    made: dict[str, Image] = {}
    parts = _STAGE.split(dockerfile)
    for parent, name, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        own = tuple((DOCKER / each).read_text("utf-8") for each in _LIST.findall(text))
        tag = re.fullmatch(r"python:([\d.]+)-slim", parent)
        python = tag[1] if tag else made[parent].python if parent in made else _PYTHON_OF_VLLM
        lists = (made[parent].lists if parent in made else ()) + own
        made[name] = Image(name, python, lists, (ROOT / "constraints.txt").read_text("utf-8"))
    return [image for image in made.values() if not image.name.endswith("-bundle")]


def of_jobs() -> Image:
    """The image that jobs run in, with what is installed here."""
    return Image("jobs", ".".join(platform.python_version_tuple()[:2]), (requirements(),))


def resolved(image: Image) -> tuple[dict[str, str], str]:
    """(each package's version, what pip says against it)."""
    built = re.compile(rf"^({'|'.join(_FROM_SOURCE)})\b.*$", re.MULTILINE)
    target = ["--python-version", image.python, *(f"--platform={each}" for each in _PLATFORMS)]
    wheels = Image(image.name, image.python, tuple(built.sub("", text) for text in image.lists), image.constraints)
    found, fault = _asked(wheels, ["--only-binary", ":all:", *target])
    if fault or not any(built.search(text) for text in image.lists):
        return found, fault
    wanted = tuple(match[0] for text in image.lists for match in built.finditer(text))
    sources, fault = _asked(Image(image.name, image.python, wanted, image.constraints), ["--no-deps"])
    return found | sources, fault


def _asked(image: Image, options: list[str]) -> tuple[dict[str, str], str]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lists: list[str] = []
        for number, text in enumerate(image.lists):
            (folder / f"{number}.txt").write_text(text, "utf-8")
            lists += ["--requirement", str(folder / f"{number}.txt")]
        (folder / "constraints.txt").write_text(image.constraints, "utf-8")
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--quiet",
            "--ignore-installed",
            *options,
            "--target",
            str(folder / "there"),
            "--constraint",
            str(folder / "constraints.txt"),
            *lists,
            "--report",
            str(folder / "report.json"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {}, done.stderr.strip()
        report = json.loads((folder / "report.json").read_text("utf-8"))
        return {each["metadata"]["name"]: each["metadata"]["version"] for each in report["install"]}, ""


def main() -> int:
    faults = 0
    for image in [*served((DOCKER / "Dockerfile").read_text("utf-8")), of_jobs()]:
        found, fault = resolved(image)
        print(f"{image.name} (Python {image.python}): {fault or f'{len(found)} packages'}", flush=True)
        faults += bool(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
