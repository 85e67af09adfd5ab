"""A refusal of Azure ends in a clear message, with nothing running, or in a resume that loses nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.backends.azure.conftest import GROUP, SUBSCRIPTION, MakeJob, ended, fails, puts, running, uploaded
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure import connection, follow
from tunewright.config import Spec
from tunewright.core.errors import UserError

FOR_EVER = 9999


def refused(spec: Spec) -> str:
    """The message about a check that Azure refuses."""
    with pytest.raises(UserError) as told:
        api.check(spec, on="azure")
    assert not list((spec.folder / "runs").glob("check-*"))
    return str(told.value)


def whole(spec: Spec) -> Path:
    return api.check(spec, on="azure")


def test_what_passes_is_waited_for(azure: AzureEmulator, job: MakeJob) -> None:
    """A request to slow down, and a fault of Azure's: on resources, and in the middle of uploads and downloads."""
    spec = job()
    faults = [
        fails(azure, r"PUT management.*/jobs/", 429, "TooManyRequests", "Slow down.", times=2, Retry_After="0"),
        fails(azure, r"GET management.*/jobs/", 503, "ServerBusy", times=2),
        fails(azure, r"PUT .*windows\.net/.*model/.*tokenizer", 429, "TooManyRequests", times=2, Retry_After="0"),
        fails(azure, r"PUT .*windows\.net/.*data_train", 500, "InternalError", times=2),
        fails(azure, r"GET .*windows\.net/.*findings\.json", 503, "ServerBusy", times=2),
    ]
    whole(spec)
    assert [fault.times for fault in faults] == [0] * len(faults)
    ended(azure)


def test_waiting_has_an_end_of_a_minute(azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure always asks to come again in an hour."""
    assert connection.RETRIES["retry_total"] * connection._LONGEST_WAIT <= 60
    monkeypatch.setattr(connection, "_LONGEST_WAIT", 0.01)
    fault = fails(azure, r"PUT management.*/jobs/", 429, "TooManyRequests", "Slow down.", FOR_EVER, Retry_After="3600")
    told = refused(job())
    assert "(429, TooManyRequests)" in told and "Slow down." in told and "in some minutes" in told
    assert FOR_EVER - fault.times == 1 + connection.RETRIES["retry_total"]
    azure.cloud.faults.clear()
    fault = fails(azure, r"PUT .*windows\.net/.*data_train", 429, "TooManyRequests", "Slow down.", FOR_EVER)
    spec = job(name="another")
    assert "429" in refused(spec)
    assert FOR_EVER - fault.times == 6
    assert not running(azure)


def test_an_upload_that_broke_off_goes_on(azure: AzureEmulator, job: MakeJob) -> None:
    """Half of a folder is there, but no asset; the next try sends only the other half."""
    spec = job()
    fault = fails(azure, r"PUT .*windows\.net/.*-model/.*tokenizer\.json", 500, "InternalError", "Broken.", FOR_EVER)
    told = refused(spec)
    assert "upload" in told and "500" in told and "finished work is not repeated" in told
    assert not puts(azure, f"{spec.name}-model/versions")
    assert not puts(azure, f"/jobs/tw-{spec.name[:30]}")
    fault.times = 0
    before = len(azure.cloud.calls)
    whole(spec)
    assert Path(next(iter(puts(azure, "-model/", before)))).name == "tokenizer.json"
    assert not [
        path for path in puts(azure, "/azureml/", before) if path.endswith("config.json") or "data_train" in path
    ]


def test_a_version_that_is_there_already(azure: AzureEmulator, job: MakeJob) -> None:
    """An asset that another client of ours made at the same moment is as good; somebody else's is not trusted."""
    spec = job()
    whole(spec)
    first = len(azure.cloud.calls)
    faults = [
        fails(azure, r"GET management.*-data_train/versions", 404, "ResourceNotFound"),
        fails(azure, r"PUT management.*-data_train/versions", 409, "Conflict", "It exists and can't be changed."),
    ]
    api.check(spec, on="azure", force=True)
    assert [fault.times for fault in faults] == [0, 0]
    assert uploaded(azure, first) == 0

    # Refused, and not there after all.
    fails(azure, r"GET management.*-data_train/versions", 404, "ResourceNotFound", times=2)
    fails(azure, r"PUT management.*-data_train/versions", 409, "Conflict", "It exists and can't be changed.")
    with pytest.raises(UserError, match=r"refused the data asset .*\(409, Conflict\)"):
        api.check(spec, on="azure", force=True)

    azure.cloud.faults.clear()
    path = puts(azure, f"{spec.name}-data_train/versions/")[0]
    azure.cloud.put(path, azure.cloud.get(path) | {"properties": {"dataType": "uri_folder", "dataUri": "azureml://x"}})
    with pytest.raises(UserError, match="that Tunewright did not make"):
        api.check(spec, on="azure", force=True)
    assert not running(azure)


def test_an_expired_sign_in_before_the_job(azure: AzureEmulator, job: MakeJob) -> None:
    fails(azure, r"PUT management.*/jobs/", 401, "ExpiredAuthenticationToken", "The token expired.", FOR_EVER)
    told = refused(job())
    assert "The token expired." in told and "az login" in told and "same command" in told
    assert not running(azure)


def test_the_network_is_away_while_a_job_runs(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a while nothing is lost; for long it is said what runs on."""
    monkeypatch.setattr(follow, "_SLOWEST", 0.2)
    spec = job()
    pattern = rf"GET management.*/jobs/tw-{spec.name[:30]}"
    fails(azure, pattern, 404, "ResourceNotFound")
    fails(azure, pattern, 503, "ServerBusy", times=8)
    whole(spec)
    assert "Still trying; the job runs on." in capsys.readouterr().err

    monkeypatch.setattr(follow, "_PATIENCE_SECONDS", 0.3)
    away = job(name="another")
    fails(azure, r"GET management.*/jobs/tw-another", 404, "ResourceNotFound")
    fails(azure, r"GET management.*/jobs/tw-another", 503, "ServerBusy", times=FOR_EVER)
    assert "a fault of Azure's" in refused(away)
    (left,) = (each for each in azure.runner.jobs.values() if each.name.startswith("tw-another"))
    assert f"az ml job cancel --name {left.name}" in capsys.readouterr().err
    azure.cloud.faults.clear()
    whole(away)
    ended(azure)
    assert left.client_status == "Completed"  # nobody cancelled it


def test_roles_workspace_and_network(azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = job(azure={"cpu": "Standard_D8s_v3"})  # of which no other test makes a cluster
    fails(azure, r"PUT management.*/computes/", 403, "AuthorizationFailed", "No authorization.", FOR_EVER)
    told = refused(spec)
    assert "No authorization." in told and "tunewright azure preflight" in told
    fails(azure, r"GET .*windows\.net/", 403, "AuthorizationPermissionMismatch", "Not permitted.", FOR_EVER)
    told = refused(spec)
    assert "✗ storage" in told and "Storage Blob Data Contributor" in told
    azure.cloud.faults.clear()
    told = refused(job(azure={"workspace": f"{SUBSCRIPTION}/{GROUP}/elsewhere"}))
    assert "elsewhere" in told and "azure.workspace" in told
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    began = time.monotonic()
    told = refused(job(name="far"))
    assert "could not be reached" in told and "Check the network" in told
    assert time.monotonic() - began < 60
    assert not running(azure)


def test_quota_is_refused_before_anything_goes_up(azure: AzureEmulator, job: MakeJob) -> None:
    spec = job(azure={"cpu": "Standard_F16s_v2"})
    said = "The specified subscription has a standardDSv5 quota limit of 4 cores; 8 are needed."
    for status, code in ((400, "QuotaExceeded"), (403, "ClusterCoreQuotaReached")):
        fails(azure, r"PUT management.*/computes/", status, code, said, FOR_EVER)
        before = len(azure.cloud.calls)
        told = refused(spec)
        assert said in told and "Quotas" in told and "azure.gpu=" in told
        assert uploaded(azure, before) == 0
        azure.cloud.faults.clear()
    assert not running(azure)
