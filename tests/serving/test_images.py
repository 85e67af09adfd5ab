"""The images hold only packages that the project declares and pins. These tests run without Docker: bench/footprint.py
makes the same environments and serves from them."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.conftest import REPOSITORY

DOCKER = REPOSITORY / "infra" / "docker"
LISTS = sorted(DOCKER.glob("*.txt"))
TARGETS = ("linear", "onnxruntime", "openvino", "vllm")


def names(lines: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", line)[0].lower() for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_packages_of_an_image_are_declared_and_pinned(file: object) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    declared = names(
        [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    )
    pinned = names((REPOSITORY / "constraints.txt").read_text("utf-8").splitlines())
    packages = names((DOCKER / f"{file.stem}.txt").read_text("utf-8").splitlines())
    assert packages <= declared
    assert packages <= pinned
    assert not packages & {"torch", "transformers", "scipy", "scikit-learn"}


def test_files_that_images_copy_exist() -> None:
    lines = (DOCKER / "Dockerfile").read_text("utf-8").splitlines()
    copied = {source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]}
    assert copied
    assert all((REPOSITORY / source).exists() for source in copied - {"bundle"})
    stages = {line.split(" AS ")[1] for line in lines if line.startswith("FROM ")}
    assert stages == {"base", "gateway", *TARGETS, *(f"{target}-bundle" for target in TARGETS)}
    assert len([line for line in lines if line.startswith("ENTRYPOINT ")]) == len(TARGETS) + 1
