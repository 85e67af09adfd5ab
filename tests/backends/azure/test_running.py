"""Steps on the emulated Azure have the same outputs as here, and nothing is done or sent twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.backends.azure.conftest import MakeJob, ended, puts, uploaded
from tunewright import api
from tunewright.api.pipeline import bring_up_to_date
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure.backend import spec_text
from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest, sha256_tree


def outputs(runs: Path) -> dict[str, str]:
    """The content of each output, by its folder's name."""
    found = {folder.name: read_manifest(folder) for folder in runs.iterdir() if folder.name != "latest"}
    return {name: manifest.content for name, manifest in found.items() if manifest}


def jobs(azure: AzureEmulator, spec: Spec) -> list[str]:
    return [name for name in azure.runner.jobs if spec.name[:30] in name]


def test_outputs_are_those_of_a_local_run_and_nothing_is_done_twice(azure: AzureEmulator, job: MakeJob) -> None:
    spec = job()
    runs = spec.folder / "runs"
    folder = api.split(spec, on="azure")
    there = outputs(runs)
    assert len(there) == 2
    assert all(sha256_tree(runs / name)[0] == content for name, content in there.items())
    here = spec.folder / "here"
    api.split(spec, runs=here)
    assert outputs(here) == there
    assert {f.name for f in folder.iterdir()} == {f.name for f in (here / folder.name).iterdir()}
    assert len(jobs(azure, spec)) == 1

    before = len(azure.cloud.calls)
    api.split(spec, on="azure")
    assert len(azure.cloud.calls) == before, "what is up to date asks Azure nothing"

    shutil.rmtree(runs)
    api.split(spec, on="azure")
    assert outputs(runs) == there
    assert not puts(azure, since=before), "the finished job is found, and only downloaded"

    api.check(spec)
    assert len(jobs(azure, spec)) == 1
    ended(azure)

    # Changed data: only they go up, and the package with another spec does not.
    with (spec.folder / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"text": "one more that nobody wrote", "label": "billing"}) + "\n")
    before = len(azure.cloud.calls)
    api.split(spec, on="azure")
    sent = puts(azure, "/azureml/", before)
    assert len(sent) == 1 and "data_train" in sent[0]
    assert uploaded(azure, before) == (spec.folder / "train.jsonl").stat().st_size
    assert not [path for path in puts(azure, since=before) if "/environments/" in path or "-code/" in path]
    assert len(jobs(azure, spec)) == 2
    assert azure.proxy.refused == []


def test_the_spec_on_the_node_names_nothing_of_this_machine(job: MakeJob) -> None:
    spec = job()
    text = spec_text(spec)
    assert str(spec.folder) not in text
    assert json.loads(text)["data"]["train"] == "given/data.train/train.jsonl"
    assert json.loads(text)["model"] == "given/model/tokenizer"


def test_a_step_alone_takes_what_earlier_steps_made_here(azure: AzureEmulator, job: MakeJob) -> None:
    """Outputs of this machine go up once, and outputs of Azure never."""
    spec = job()
    api.check(spec)
    before = len(azure.cloud.calls)
    api.split(spec, on="azure")
    (check,) = (spec.folder / "runs").glob("check-*")
    files = [path for path in check.rglob("*") if path.is_file()]
    assert len([path for path in puts(azure, "/azureml/", before) if "-check/" in path]) == len(files)
    assert jobs(azure, spec) == [name for name in azure.runner.jobs if "-split-" in name][-1:]
    # Forced, it runs again on the very asset.
    before = len(azure.cloud.calls)
    bring_up_to_date(spec, "split", None, "split", False, "azure")
    assert len(jobs(azure, spec)) == 2
    assert uploaded(azure, before) == 0


def test_a_step_that_turns_out_to_be_up_to_date_does_not_run_on_in_azure(
    azure: AzureEmulator, job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another file with the same rows: the check is due, its output does not change, and the split is not due."""
    spec = job()
    api.split(spec)
    data = spec.folder / "train.jsonl"
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    data.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows), "utf-8")
    api.split(spec, on="azure")
    assert "split ✓ unchanged, reused" in (said := capsys.readouterr().err)
    assert "is cancelled" in said
    ended(azure)
    assert {job.status for job in azure.runner.jobs.values() if job.name in jobs(azure, spec)} == {"Canceled"}
