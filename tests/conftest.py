"""What many fast tests share: a small spec, examples, a tokenizer without a model, and the command line."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.prepared import prepared
from tunewright.config import DataSpec, Spec, parse_spec
from tunewright.data.checks import Finding, judge
from tunewright.data.checks.scan import Scanner
from tunewright.data.checks.survey import Split, Survey
from tunewright.data.job import Job
from tunewright.tasks import ClassifyTask, Example, Meta

SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
LABELS = ["billing", "defect", "refund"]
REPOSITORY = Path(__file__).parents[1]
PUBLIC = Path(__file__).parent / "data" / "public"
"""Rows of public data sets; its README has their licences."""
BAD_INPUTS = Path(__file__).parent / "data" / "bad_inputs"
"""Malformed data files, each with one fault."""
TOKENIZER = Path(__file__).parent / "tokenizer"
"""A tokenizer without a model: one token a byte."""
SHORT_RUN = {
    "tests/models/test_base_model.py",
    "tests/serving/test_batch_run.py",
    "tests/parity/test_elsewhere.py",
    "tests/pipeline/test_faults.py",
    "tests/ladder/test_real_ladder.py",
    "tests/inference/test_smollm2_openvino.py",
    "tests/pipeline/test_short_run.py",
}
"""The files that need the fixture `short_run`."""

pytest_plugins = ["tests.fixtures.tiny", "tests.fixtures.short_run", "tests.fixtures.browser"]


LONGEST = (
    *sorted(SHORT_RUN),
    "tests/training/test_distributed.py",
    "tests/backends/azure/test_retrain.py",
    "tests/docs/test_readme.py",
    "tests/deploy/test_deploy_run.py",
)
"""The files that take minutes each. They begin first, so that no process works alone at the end."""


class ByFile(LoadScopeScheduling):
    """Gives a file's tests to one process, and to the same those of all files that need the real model's short run."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "short run" if file in SHORT_RUN else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order of all else stays."""
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(LONGEST)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files alone whose every test has a mark that was not asked for. Importing them takes half a minute."""
    left_out = set(re.findall(r"not (\w+)", config.option.markexpr))
    if collection_path.suffix != ".py" or not left_out:
        return None
    found = re.search(r"^pytestmark = (\[[^\]]*\]|.*)", collection_path.read_text("utf-8"), re.MULTILINE)
    return True if found and left_out & set(re.findall(r"pytest\.mark\.(\w+)", found[1])) else None


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    """What `--dist loadfile` is here. (xdist's own groups are lost on pytest 9, which keeps no other node id.)"""
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


ALL = os.environ.get("TUNEWRIGHT_TESTS") == "all"
"""Whether a test that lacks something fails, as in CI, where it would be skipped, as on a laptop."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI nothing is skipped but what `may_skip` marks: a missing browser, database or data set is a failure."""
    report = yield
    if ALL and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("may_skip") is None:
        report.outcome = "failed"
        report.longrepr = f"TUNEWRIGHT_TESTS=all, and this test was skipped: {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """The same for a whole file."""
    report = yield
    if ALL and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"TUNEWRIGHT_TESTS=all, and {collector.nodeid} was skipped: {report.longrepr[2]}"
    return report


@pytest.fixture(scope="session")
def prepared_steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The process whose forks steps are; see `tests.prepared`."""
    with prepared(tmp_path_factory.mktemp("prepared")) as parent:
        yield parent


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """A file that says who may ask a container app: everybody with a role."""
    tenant, audience = "11111111-0000-0000-0000-000000000001", "22222222-0000-0000-0000-000000000002"
    provider = {"issuer": f"https://login.microsoftonline.com/{tenant}/v2.0", "audience": audience}
    file = tmp_path / "identity.json"
    file.write_text(json.dumps(provider | {"grants": [{"role": "Ask"}]}), "utf-8")
    return file


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function from a size to a folder on a disk of that size; called again, the disk has the new size."""
    small = tmp_path / "small"
    small.mkdir()

    def sized(size: str) -> Path:
        kind = ["-o", f"remount,size={size}"] if small.is_mount() else ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
        if subprocess.run(["mount", *kind, str(small)], check=False, capture_output=True).returncode:
            pytest.skip("this machine does not allow mounting a tmpfs")
        return small

    yield sized
    if small.is_mount():
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.fixture
def memory_group(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function from a limit in bytes to the folder of a control group with that limit, for processes to enter."""
    made: list[Path] = []

    def limited(limit: int) -> Path:
        first, second = (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")
        for group, file in (first, second):
            folder = group / f"tunewright-{tmp_path.name}"
            try:
                folder.mkdir()
                made.append(folder)
                (folder / file).write_text(str(limit), "ascii")
                return folder
            except OSError:
                continue
        pytest.skip("this machine does not allow making a control group")

    yield limited
    for folder in made:
        folder.rmdir()


def spec_data(**changes: Any) -> dict[str, Any]:
    """The smallest spec as plain data; `changes` are top-level keys."""
    task = {"kind": "classify", "instruction": "Route the ticket:\n{labels}", "labels": LABELS}
    return {"name": "tickets", "task": task, "data": {"train": "train.jsonl"}, "model": str(TOKENIZER), **changes}


def make_spec(folder: Path = Path("/nowhere"), **changes: Any) -> Spec:
    return parse_spec(json.dumps(spec_data(**changes)), folder / "tunewright.yaml")


def example(request: str, answer: str = "billing", group: str | None = None, source: str | None = None) -> Example:
    return Example.of(request, answer, Meta(id=f"id-{request}", group=group, source=source))


def findings_in(
    folder: Path,
    splits: Mapping[str, Sequence[Example]],
    labels: Sequence[str] = LABELS,
    data: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """All findings over examples that were read without fault; "train" first."""
    return judge(survey_in(folder, splits, labels, data))[0]


def survey_in(
    folder: Path,
    splits: Mapping[str, Sequence[Example]],
    labels: Sequence[str] = LABELS,
    data: Mapping[str, Any] | None = None,
) -> Survey:
    """What one pass over some examples leaves behind. Without labels there is no task either."""
    task = ClassifyTask("Route the ticket.", dict.fromkeys(labels, "")) if labels else None
    job = Job(DataSpec(**{"train": Path("train.jsonl"), **(data or {})}), dict.fromkeys(splits, Path("x.jsonl")), task)
    surveyed = {}
    for name, examples in splits.items():
        file = folder / f"{name}.examples"
        scanner = Scanner(job, name, alone=False)
        with file.open("wb") as stream:
            for each in examples:
                scanner.add(each, stream)
        surveyed[name] = Split(job, [scanner.scan()], [scanner.table()], [file.stat().st_size], file)
    return Survey(job, surveyed)


def unalike(key: str) -> str:
    """Four made-up words that no other key shares, so that texts of them are nobody's near copies."""
    draw = random.Random(key)
    return " ".join("".join(draw.choices(SYLLABLES, k=3)) for _ in range(4))


def write_project(folder: Path, **changes: Any) -> Path:
    """A project whose data the steps check and split can use."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"{label} {unalike(f'{label} {n}')}", "label": label} for n in range(30) for label in LABELS]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "tunewright.yaml").write_text(json.dumps(spec_data(**changes)), "utf-8")
    return folder


class CharTokenizer:
    """One token a character."""

    controls = re.compile("(?!)")

    def encode_text(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    encode_verbatim = encode_text


def decode(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | environment,
    )


def tunewright(*arguments: str, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line as a user types it."""
    command = [str(Path(sys.executable).with_name("tunewright")), *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=540
    )


def copied_example(name: str, folder: Path) -> Path:
    """A copy of an example's project in a folder, without what was run in it."""
    return Path(shutil.copytree(REPOSITORY / "examples" / name, folder / name, ignore=shutil.ignore_patterns("runs")))


def whole_run(project: Path, *changes: str) -> tuple[Path, dict[str, Any]]:
    """(the folder `runs/latest` of a whole run, its report)."""
    found = tunewright("run", str(project), *changes, "--json")
    assert found.returncode == 0, found.stderr
    return project / "runs" / "latest", json.loads(found.stdout)


@pytest.fixture(scope="module")
def latest(done: tuple[Path, dict[str, Any]]) -> Path:
    """Of a module whose fixture `done` is a `whole_run`, the folder of what it made last."""
    return done[0]


@pytest.fixture(scope="module")
def server(latest: Path) -> Iterator[str]:
    """The address of a server of what that run made."""
    from tunewright.serving.child import running_server

    with running_server(latest / "bundle") as address:
        yield address


def wait_for_checkpoint(training: subprocess.Popen[str], project: Path, pattern: str) -> None:
    """Wait until a training has written a checkpoint to its end.

    Args:
        pattern: of checkpoint folders below the project.
    """
    wait_for_file(training, project, f"{pattern}/trainer_state.json", seconds=240)


def wait_for_file(process: subprocess.Popen[str], folder: Path, pattern: str, seconds: float = 120) -> None:
    """Wait until a process that runs has written a file."""
    deadline = time.monotonic() + seconds
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
