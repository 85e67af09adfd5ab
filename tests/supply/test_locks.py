"""What is installed: pyproject.toml says in which range, constraints.txt at which version, locks/ which files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

LOCKS = REPOSITORY / "locks"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


@dataclass
class Locked:
    version: str
    marker: str
    hashes: list[str]


def locked(name: str) -> dict[str, Locked]:
    """What a lock holds, by package. Each line of it is understood."""
    text = (LOCKS / name).read_text("utf-8").replace("\\\n", "")
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        head, *hashes = line.split("--hash=")
        pin = re.fullmatch(r"([\w.-]+)==(\S+)(?: ; (.+))?", head.strip())
        assert pin, line
        assert canonicalize_name(pin[1]) not in found, "two versions for two platforms: pin it"
        found[canonicalize_name(pin[1])] = Locked(pin[2], pin[3] or "", [each.strip() for each in hashes])
    return found


def constraints() -> dict[str, SpecifierSet]:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): pin.specifier for pin in pins}


@pytest.mark.parametrize("name", ["all.txt", "build.txt", "cpu.txt"])
def test_each_package_has_the_hashes_of_its_files_and_no_place_they_come_from(name: str) -> None:
    found = locked(name)
    assert found
    for each in found.values():
        assert each.hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in each.hashes)
    assert "://" not in (LOCKS / name).read_text("utf-8")


def test_all_that_the_project_asks_for_is_locked_in_its_range() -> None:
    found, project = locked("all.txt"), PYPROJECT["project"]
    asked = [
        *project["dependencies"],
        *PYPROJECT["dependency-groups"]["build"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
        *PYPROJECT["build-system"]["requires"],
    ]
    for requirement in map(Requirement, asked):
        if requirement.name != project["name"]:
            name = canonicalize_name(requirement.name)
            assert name in found, f"{name} is new: make lock"
            assert found[name].version in requirement.specifier, f"{name} has another range: make lock"


def test_what_is_locked_is_what_the_constraints_say() -> None:
    found, pins = locked("all.txt"), constraints()
    for name, pin in pins.items():
        assert name in found, f"nothing asks for {name} any more: take it out of constraints.txt"
        assert found[name].version in pin, f"{name} has another version: make lock"
    # torch's CUDA build brings its own; what has a marker is for platforms on which nothing was measured.
    free = {name for name, each in found.items() if not each.marker} - pins.keys()
    assert not free, "add these to constraints.txt, at the version of locks/all.txt"


def test_the_other_locks_are_parts_of_it() -> None:
    found = locked("all.txt")
    for name, each in locked("build.txt").items():
        assert (each.version, each.hashes) == (found[name].version, found[name].hashes)
    (torch,) = locked("cpu.txt").values()
    assert torch.version == f"{found['torch'].version}+cpu"


def test_what_makes_an_environment_is_in_the_lock_of_builders() -> None:
    """pip takes nothing for a build that is not there, so what builds the project must be."""
    built = locked("build.txt")
    for requirement in map(Requirement, PYPROJECT["build-system"]["requires"]):
        assert built[canonicalize_name(requirement.name)].version in requirement.specifier
    assert {"pip", "editables", "setuptools"} < built.keys()


def test_extras_that_name_others_are_followed(
    tool: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    requirements = tool("requirements")
    assert requirements.main(["all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {Requirement(line).name for line in lines}
    assert {"pydantic", "torch", "fastapi", "pypdfium2", "pyjwt"} < names
    assert "tunewright" not in names and "pytest" not in names
    assert len(lines) == len(set(lines))
    assert requirements.main(["--only", "supply"]) == 0
    assert {Requirement(line).name for line in capsys.readouterr().out.splitlines()} == {
        "uv",
        "pip-audit",
        "cyclonedx-bom",
    }
    assert requirements.main(["alll"]) == 2
    assert "no extra alll" in capsys.readouterr().err


def test_everything_is_installed_by_its_hashes() -> None:
    """No recipe takes a package of the project's own environments but from the locks."""
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    recipe = makefile[makefile.index("$(READY): ") : makefile.index("$(VLLM)/.ready:")]
    installs = [line for line in recipe.splitlines() if "pip install" in line]
    assert len(installs) == 4
    for line in installs:
        assert "--require-hashes" in line or "--no-deps --no-build-isolation --editable ." in line
    assert "--require-hashes" in next(line for line in makefile.splitlines() if line.startswith("LOCKED = "))
