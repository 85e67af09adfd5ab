"""Retraining by the calendar: at the given interval, and as an identity that needs no signed-in user."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.backends.azure.conftest import MakeJob, ended, puts
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure import schedule
from tunewright.backends.azure.connection import connect
from tunewright.backends.azure.store import BlobStore
from tunewright.core.errors import UserError

IDENTITY = (
    "/subscriptions/00000000-0000-0000-0000-00000000feed/resourceGroups/group/providers"
    "/Microsoft.ManagedIdentity/userAssignedIdentities/jobs"
)


def put(azure: AzureEmulator, name: str) -> dict[str, Any]:
    found = azure.cloud.get(f"{azure.cloud.workspace}/schedules/{name}")
    assert found
    return dict(found["properties"])


def test_without_an_identity_nothing_is_made(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_ML_IDENTITY", raising=False)
    before = len(azure.cloud.calls)
    with pytest.raises(UserError, match=r"nobody is signed in.*azd up.*azure\.identity=/subscriptions/"):
        api.schedule(job(), "month", 3)
    assert not puts(azure, since=before)


def test_every_step_runs_as_the_identity(azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_ML_IDENTITY", raising=False)
    made = api.schedule(job(azure={"identity": IDENTITY}), "month", 3)
    jobs = put(azure, made.name)["action"]["jobDefinition"]["jobs"]
    assert {step["identity"]["identity_type"] for step in jobs.values()} == {"Managed"}
    assert {step["identity"]["resource_id"] for step in jobs.values()} == {IDENTITY}


@pytest.mark.parametrize("identity", [IDENTITY, None], ids=["an identity", "nobody"])
def test_what_the_calendar_begins_runs_as_the_identity_alone(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch, identity: str | None
) -> None:
    """A schedule that we refuse would fail when its time comes."""
    monkeypatch.delenv("AZURE_ML_IDENTITY", raising=False)
    if identity is None:
        monkeypatch.setattr(schedule, "_require_identity", lambda _: None)
    made = api.schedule(job(azure={"identity": identity}), "month", 3)
    fired = azure.jobs.fire(made.name)
    end = time.monotonic() + 60

    def status(step: str) -> str | None:
        of_it = [each for each in azure.runner.jobs.values() if each.parent == fired.name]
        return next((each.status for each in of_it if each.body["displayName"] == step), None)

    while fired.status not in ("Failed", "Completed") and status("split") != "Completed":
        assert time.monotonic() < end, {each.name: each.status for each in azure.runner.jobs.values()}
        time.sleep(0.1)
    for each in azure.runner.jobs.values():
        if fired.name in (each.name, each.parent):
            azure.runner.cancel(each)
    ended(azure)
    assert (status("check"), status("split")) == (("Completed",) * 2 if identity else ("Failed", None)), fired.error
    if identity is None:
        assert "nobody did" in (fired.error or "")


def test_apis_and_judges_with_keys_stay_here_and_the_rest_goes_by_the_calendar(
    azure: AzureEmulator, job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    api_here = {"model": "gpt-4o-mini", "url": "https://api.openai.com/v1", "key": "OPENAI_API_KEY"}
    made = api.schedule(job(azure={"identity": IDENTITY}, api=api_here, judge={"model": "gpt-4o"}), "month", 3)
    assert made.steps == ["check", "split", "train", "export", "evaluate", "parity", "verdict", "bundle"]
    jobs = put(azure, made.name)["action"]["jobDefinition"]["jobs"]
    assert set(jobs) == set(made.steps)
    assert not {"baseline", "judge"} & set(jobs["verdict"]["inputs"])
    assert "without baseline and judge, because their APIs' keys stay on this machine" in capsys.readouterr().err


def test_what_is_gone_here_is_gone_there_and_what_others_put_there_stays(
    azure: AzureEmulator, job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    """Deleted rows must not be trained on, and purged captures must not stay in the cloud."""
    spec = job(azure={"identity": IDENTITY}, data={"train": "data", "test": {"old": "old.jsonl"}})
    rows, folder = (spec.folder / "train.jsonl").read_text("utf-8"), f"tunewright/{spec.name}/current"
    (spec.folder / "data").mkdir()
    for file in ("data/kept.jsonl", "data/deleted.jsonl", "old.jsonl"):
        (spec.folder / file).write_text(rows, "utf-8")
    api.schedule(spec, "month", 3)
    storage = BlobStore(connect(spec))
    sent = {"data_train/data/kept.jsonl", "data_train/data/deleted.jsonl", "data_test_old/old.jsonl"}
    assert sent <= set(storage.names(folder))
    storage.write(f"{folder}/data_train/data/copied.jsonl", rows)
    (spec.folder / "data" / "deleted.jsonl").unlink()
    capsys.readouterr()
    api.schedule(spec.model_copy(update={"data": spec.data.model_copy(update={"test": {}})}), "month", 3)
    lying = {name for name in storage.names(folder) if name.endswith(".jsonl")}
    assert lying == {"data_train/data/kept.jsonl", "data_train/data/copied.jsonl"}
    told = capsys.readouterr().err
    assert "removed data_test_old/old.jsonl, data_train/data/deleted.jsonl from" in told
    assert "also has data_train/data/copied.jsonl, which an earlier version of this command or somebody else" in told
    assert azure.cloud.violations == []


def test_the_identity_of_azd_is_one(azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_ML_IDENTITY", IDENTITY)
    assert put(azure, api.schedule(job(), "week", 3).name)


@pytest.mark.parametrize(
    ("every", "frequency", "interval", "days", "when"),
    [
        ("week", "Week", 1, {"weekDays": ["Monday"]}, "each Monday at 04:00 UTC"),
        ("month", "Month", 1, {"monthDays": [1]}, "on the first of each month at 04:00 UTC"),
        ("quarter", "Month", 3, {"monthDays": [1]}, "on the first of each quarter at 04:00 UTC"),
    ],
)
def test_it_runs_as_often_as_was_said(
    azure: AzureEmulator, job: MakeJob, every: str, frequency: str, interval: int, days: dict[str, Any], when: str
) -> None:
    """Not by a cron expression, whose days and months Azure ML ignores: a monthly job would run every day."""
    made = api.schedule(job(azure={"identity": IDENTITY}), every, 4)
    assert made.when == when
    trigger = put(azure, made.name)["trigger"]
    assert (trigger["triggerType"], trigger["frequency"], trigger["interval"]) == ("Recurrence", frequency, interval)
    assert {key: value for key, value in trigger["schedule"].items() if value} == {"hours": [4], **days} | {
        "minutes": [0]
    }
    start = datetime.fromisoformat(trigger["startTime"]).replace(tzinfo=UTC)
    assert (start.month in (1, 4, 7, 10), start.day, start.hour) == (True, 1, 4)
    assert azure.cloud.violations == []


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2026-11-28T10:00", "2026-10-01T03:00:00"),
        ("2027-01-01T00:00", "2027-01-01T03:00:00"),
        ("2026-09-30T23:59", "2026-07-01T03:00:00"),
    ],
)
def test_quarters_begin_where_the_years_do(now: str, start: str) -> None:
    """A start in the past runs nothing by itself; the job runs on the next first day of a quarter."""
    assert schedule.start_of(datetime.fromisoformat(now), 3) == start


def test_a_cluster_from_before_gets_the_identity(azure: AzureEmulator, job: MakeJob) -> None:
    """A job with an identity that its cluster lacks would fail at night."""
    spec = job(azure={"cpu": "Standard_D2s_v3"})
    api.check(spec, on="azure")
    known = _cluster(azure, "d2s-v3")
    assert not known.get("identity")
    api.schedule(spec.model_copy(update={"azure": spec.azure.model_copy(update={"identity": IDENTITY})}), "month", 3)
    now = _cluster(azure, "d2s-v3")
    assert list(now["identity"]["userAssignedIdentities"]) == [IDENTITY]
    assert now["properties"]["properties"]["vmSize"] == known["properties"]["properties"]["vmSize"]
    assert azure.cloud.violations == []


def _cluster(azure: AzureEmulator, short: str) -> dict[str, Any]:
    (path,) = {
        each
        for each in puts(azure, "/computes/")
        if re.search(rf"tunewright-(cpu|{short})$", each) and _size(azure, each) == "standard_d2s_v3"
    }
    found = azure.cloud.get(path)
    assert found
    return found


def _size(azure: AzureEmulator, path: str) -> str:
    found = azure.cloud.get(path) or {"properties": {"properties": {}}}
    return str(found["properties"]["properties"].get("vmSize", "")).lower()
