"""However a job ends, the user learns why, nothing of it runs on without a message, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.backends.azure.conftest import Emulation, MakeJob, ended, fails, puts, running
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.emulated_job import EmulatedJob
from tunewright.backends.azure import machines
from tunewright.backends.azure.follow import JobFollower
from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest
from tunewright.core.errors import EXIT_INTERRUPTED, EXIT_USER, UserError

_SPLIT = """
import signal
from tunewright.cli import app, main, steps
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
line = app.command_line()
line.command("split")(steps.step_command("split", "."))
app.command_line = lambda *_: line
main()
"""


def client(emulation: Emulation, spec: Spec) -> subprocess.Popen[str]:
    """A process of the command line that runs up to the split."""
    command = [sys.executable, "-c", _SPLIT, "split", str(spec.folder), "--on", "azure"]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | emulation.variables
    )


def of(azure: AzureEmulator, spec: Spec) -> list[EmulatedJob]:
    """The command jobs of a spec, in the order in which they began."""
    names = [name for name in azure.runner.jobs if spec.name[:30] in name]
    return [job for job in azure.runner.jobs.values() if job.name in names or job.parent in names]


def on_a_node(azure: AzureEmulator, spec: Spec, seconds: float = 60) -> EmulatedJob:
    """Wait until a job runs."""
    end = time.monotonic() + seconds
    while True:
        for job in of(azure, spec):
            if job.client_status == "Running" and any(node.poll() is None for node in job.nodes):
                return job
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def at_a_standstill(job: EmulatedJob) -> Iterator[None]:
    """Inside the block, a job's nodes exist and do nothing."""
    for node in job.nodes:
        os.killpg(node.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for node in job.nodes:
            os.killpg(node.pid, signal.SIGCONT)


@contextmanager
def as_it_runs(azure: AzureEmulator, spec: Spec, act: Callable[[EmulatedJob], None]) -> Iterator[None]:
    """Inside the block, something is done to the first job that runs."""
    thread = threading.Thread(target=lambda: act(on_a_node(azure, spec)))
    thread.start()
    yield
    thread.join()


def told(spec: Spec, step: Callable[..., Path] = api.check) -> str:
    with pytest.raises(UserError) as error:
        step(spec, on="azure")
    return str(error.value)


def test_a_client_that_is_killed_finds_its_job_again(azure: AzureEmulator, emulation: Emulation, job: MakeJob) -> None:
    spec = job()
    process = client(emulation, spec)
    with at_a_standstill(on_a_node(azure, spec)):  # else it may be over before the second client has started
        process.kill()
        process.communicate()
        before = len(azure.cloud.calls)
        done = client(emulation, spec)
        assert done.stderr
        said = ""
        while "was submitted before" not in said and (line := done.stderr.readline()):
            said += line
    said += done.stderr.read()
    assert done.wait(90) == 0, said
    assert "was submitted before and is running" in said
    assert not puts(azure, "/jobs/tw-", before)
    (split,) = (spec.folder / "runs").glob("split-*")
    assert read_manifest(split)
    ended(azure)
    assert "sig=" not in said and "eyJ" not in said


def test_ctrl_c_cancels_and_the_next_try_is_a_new_one(azure: AzureEmulator, emulation: Emulation, job: MakeJob) -> None:
    spec = job()
    process = client(emulation, spec)
    on_a_node(azure, spec)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, said
    assert "is cancelled; its machines go" in said
    # At once, while the first is still being cancelled.
    api.split(spec, on="azure")
    ended(azure)
    names = [name for name in azure.runner.jobs if name.startswith(f"tw-{spec.name[:30]}")]
    assert names == [names[0], f"{names[0]}-2"]
    assert [azure.runner.jobs[name].status for name in names] == ["Canceled", "Completed"]


def test_ctrl_c_while_azure_is_away_says_what_runs_on(azure: AzureEmulator, emulation: Emulation, job: MakeJob) -> None:
    spec = job()
    process = client(emulation, spec)
    on_a_node(azure, spec)
    fails(azure, r"POST .*/cancel", 403, "AuthorizationFailed", "Not you.", 999)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, said
    assert "runs on, for at most $0.19 an hour" in said and "az ml job cancel --name tw-" in said
    ended(azure, 60)


def test_a_users_mistake_is_told_in_the_steps_own_words(
    azure: AzureEmulator, emulation: Emulation, job: MakeJob
) -> None:
    spec = job()
    with (spec.folder / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"text": "broken"\n')
    with pytest.raises(UserError) as here:
        api.split(spec, runs=spec.folder / "here")
    process = client(emulation, spec)
    _, said = process.communicate(timeout=90)
    assert process.returncode == EXIT_USER
    last = said.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    own = str(here.value).replace("/here/", "/runs/").removeprefix(f"{spec.folder}/")
    assert last == f"Error: {own}"
    assert str(spec.folder / "runs") in last
    assert "Traceback" not in said
    ended(azure)


def test_a_node_that_dies(azure: AzureEmulator, job: MakeJob) -> None:
    spec = job()
    with as_it_runs(azure, spec, lambda job: os.killpg(job.nodes[0].pid, signal.SIGKILL)):
        said = told(spec)
    assert "The step check failed in Azure (tw-" in said and "status code -9" in said and "same command" in said
    api.check(spec, on="azure")
    assert len(of(azure, spec)) == 2
    assert not running(azure)


def test_a_pipeline_of_which_a_node_dies(azure: AzureEmulator, job: MakeJob) -> None:
    spec = job()
    with as_it_runs(azure, spec, lambda job: os.killpg(job.nodes[0].pid, signal.SIGKILL)):
        assert "The step check failed in Azure" in told(spec, api.split)
    ended(azure)
    assert len(of(azure, spec)) == 2, "the pipeline and its first job: the second never began"


def test_a_job_that_somebody_cancels_in_the_studio(azure: AzureEmulator, job: MakeJob) -> None:
    spec = job()
    with as_it_runs(azure, spec, azure.runner.cancel):
        said = told(spec)
    assert "was cancelled at the step check" in said and "no part of the job runs any more" in said
    api.check(spec, on="azure")
    assert not running(azure)


def test_a_job_over_its_limit(azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_SHORTEST", 0)
    monkeypatch.setattr(JobFollower, "_check_budget", lambda _: None)
    spec = job(azure={"budget_usd": 0.192 / 3600})
    said = told(spec)
    assert "The step check was stopped after 1 s" in said and "azure.budget_usd" in said and "Raise it" in said
    assert not running(azure)


def test_a_budget_that_is_reached(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job is stopped; with a larger budget the same work goes on."""
    monkeypatch.setattr(machines, "limits", lambda steps, *_: {step.name: 600 for step in steps})
    spec = job(azure={"budget_usd": 0.192 / 3600})
    said = told(spec, api.split)
    assert "The budget of $0.00 is reached" in said and "azure.budget_usd" in said
    assert "is cancelled" in capsys.readouterr().err
    ended(azure)
    first = {each.name for each in of(azure, spec) if each.parent is None}
    more = spec.model_copy(update={"azure": spec.azure.model_copy(update={"budget_usd": 5.0})})
    api.split(more, on="azure")
    ended(azure)
    # The whole again, or only the second step, where the first had ended before it was stopped.
    (second,) = (each for each in of(azure, spec) if each.parent is None and each.name not in first)
    assert second.status == "Completed"


def test_a_budget_too_small_for_anything(azure: AzureEmulator, job: MakeJob) -> None:
    before = len(azure.cloud.calls)
    said = told(job(azure={"budget_usd": 0.001}))
    assert "The rest of the budget, $0.00, pays for only 18 s of the step check" in said
    assert all(call.method != "PUT" for call in azure.cloud.calls[before:])


@pytest.mark.usefixtures("azure")
def test_what_another_try_left_half_is_not_mixed_in(job: MakeJob) -> None:
    """Neither a local run's unfinished output, nor half of another job's output."""
    spec = job()
    api.check(spec, on="azure")
    (folder,) = (spec.folder / "runs").glob("check-*")
    manifest = read_manifest(folder)
    good = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    partial = folder.with_name(f".{folder.name}.partial")
    folder.rename(partial)
    (partial / "findings.json").write_bytes(b" " * len(good["findings.json"]))
    (partial / "left_over").write_text("of another", "utf-8")
    api.check(spec, on="azure")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == good
    assert read_manifest(folder) == manifest
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, "latest"]
