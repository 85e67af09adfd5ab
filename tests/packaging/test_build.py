"""The wheel and the sdist: what they hold, and that an installed wheel needs no repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tunewright.config.recipes import recipe_names
from tunewright.core.version import __version__

pytestmark = pytest.mark.slow
PACKAGE = REPOSITORY / "src" / "tunewright"


@dataclass(frozen=True)
class Built:
    wheel: Path
    names: frozenset[str]
    """Of the wheel's files."""
    sdist: frozenset[str]
    """The sdist's files, without its own folder."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both, the wheel built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = frozenset(archive.namelist())
    with tarfile.open(sdist) as source:
        files = frozenset(each.name.partition("/")[2] for each in source.getmembers() if each.isfile())
    return Built(wheel, names, files)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was installed into, without what it depends on."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(built.wheel)], check=True)
    return target


def tunewright(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command in a folder. What it depends on is what is installed here."""
    return subprocess.run(
        [sys.executable, str(installed / "bin" / "tunewright"), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def test_the_wheel_holds_the_examples_with_their_data(built: Built) -> None:
    tickets = {name.removeprefix("tunewright/examples/tickets/") for name in built.names if "/tickets/" in name}
    parts = ("test", "test_unseen_phrasing", "train")
    assert tickets == {"make_data.py", "phrasings.txt", "tunewright.yaml", *(f"data/{part}.jsonl" for part in parts)}
    assert not [name for name in built.names if "/runs/" in name or name.endswith(".pyc")]


def test_the_wheel_holds_all_that_the_package_reads(built: Built) -> None:
    for folder in ("docker", "chart"):
        files = [file for file in (REPOSITORY / "infra" / folder).rglob("*") if file.is_file()]
        assert {f"tunewright/{file.relative_to(REPOSITORY).as_posix()}" for file in files} <= built.names
    assert {f"tunewright/recipes/{name}.yaml" for name in recipe_names()} <= built.names
    files = [file for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert {f"tunewright/{file.relative_to(PACKAGE).as_posix()}" for file in files} <= built.names
    assert "tunewright/py.typed" in built.names


def test_the_wheel_names_the_glibc_that_its_kernels_need(built: Built) -> None:
    kernels = PACKAGE / "inference" / "runtimes" / "vnni" / "kernels.vnni.so"
    if not kernels.is_file():
        pytest.skip("this machine has compiled no kernels")
    tag = re.fullmatch(r"tunewright-[\w.]+-py3-none-manylinux_2_(\d+)_x86_64\.whl", built.wheel.name)
    assert tag, built.wheel.name
    assert f"GLIBC_2.{tag[1]}".encode() in kernels.read_bytes()


def test_the_wheel_holds_nothing_but_the_package(built: Built) -> None:
    assert {name.partition("/")[0] for name in built.names} == {"tunewright", f"tunewright-{__version__}.dist-info"}


def test_the_metadata_names_no_private_address(built: Built) -> None:
    found = metadata(built.wheel)
    assert (found["Version"], found["Author"], found["License-Expression"]) == (
        __version__,
        "Tunewright contributors",
        "Apache-2.0",
    )
    assert found["Author-Email"] is None and found["Maintainer-Email"] is None
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(found.get_all("Classifier") or ())
    urls = found.get_all("Project-URL") or []
    assert len(urls) == 4 and all(", https://github.com/tunewright/tunewright" in url for url in urls)


def test_the_sdist_holds_what_git_has(built: Built) -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no checkout of git")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    tracked = {name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()}
    assert tracked - built.sdist == set()
    assert not [name for name in built.sdist if re.search(r"(^|/)(runs|\.venv\S*|dist)/", name)]


def test_the_sdist_holds_what_make_test_needs(built: Built) -> None:
    folders = {name.partition("/")[0] for name in built.sdist if "/" in name}
    assert {"bench", "docs", "examples", "infra", "locks", "src", "tests", "tools", ".github"} <= folders
    assert {"Makefile", "constraints.txt", "pyproject.toml", "action.yml", "mkdocs.yml"} <= built.sdist


def test_the_installed_command_writes_the_example_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = tunewright(installed, tmp_path, "init", "--example", "tickets")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "tunewright run tickets"
    source = REPOSITORY / "examples" / "tickets" / "data" / "train.jsonl"
    assert (tmp_path / "tickets" / "data" / "train.jsonl").read_bytes() == source.read_bytes()
    # pip compiles what it installs; that is no part of the example.
    assert not list(tmp_path.rglob("*.pyc"))
    shown = tunewright(installed, tmp_path, "spec", "show", "tickets")
    assert json.loads(shown.stdout)["name"] == "tickets"
    wrong = tunewright(installed, tmp_path, "init", "--example", "ticket")
    assert "The examples are: article, invoices, replies, tickets." in wrong.stderr


def test_the_installed_package_finds_its_own_files(installed: Path, tmp_path: Path) -> None:
    script = (
        "import tunewright; from tunewright.deploy.images import infra_folder; from tunewright.cli.init import "
        "examples_folder; print(tunewright.__file__, infra_folder() / 'chart', examples_folder(), sep='\\n')"
    )
    environment = os.environ | {"PYTHONPATH": str(installed)}
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    places = [Path(line) for line in found.stdout.splitlines()]
    assert places == [installed / "tunewright" / name for name in ("__init__.py", "infra/chart", "examples")]
    listed = tunewright(installed, tmp_path, "recipes", "ls", "--json")
    assert set(json.loads(listed.stdout)) == set(recipe_names())
