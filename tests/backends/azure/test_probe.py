"""The probe asks the subscription which rules hold, deletes what it made, and its file identifies nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.backends.azure.conftest import GROUP, SUBSCRIPTION, WORKSPACE, MakeJob, fails
from tunewright import api
from tunewright.azure_emulator import AzureEmulator, arm
from tunewright.azure_emulator.blobs import ACCOUNT
from tunewright.azure_emulator.cloud import TENANT
from tunewright.backends.azure import probe as probing
from tunewright.backends.azure.answers import AzureAnswer, Probe, judged
from tunewright.backends.azure.connection import connect
from tunewright.cli import azure as command
from tunewright.cli.app import command_line

cli = command_line()

ASKED = {
    "model-version-is-an-integer",
    "cluster-series",
    "endpoint-name",
    "endpoint-sizes",
    "endpoint-egress",
    "schedules-have-recurrences",
    "role-wildcards",
}


@pytest.fixture(autouse=True)
def _nothing_left(azure: AzureEmulator) -> Any:
    yield
    azure.cloud.faults.clear()
    assert not standing(azure)
    assert not azure.cloud.violations


def standing(azure: AzureEmulator) -> list[str]:
    """The resources of probes that exist."""
    made = [each for each in azure.cloud._resources if "tw-probe-" in each]
    return made + [name for name in azure.storage.names("") if "tw-probe-" in name]


def verdicts(found: Probe) -> dict[str, str]:
    return {row.rule: row.verdict for row in found.rows}


def test_every_rule_that_is_asked_holds_here(azure: AzureEmulator, job: MakeJob) -> None:
    before = len(azure.cloud.calls)
    found = api.probe(job())
    assert found.passed
    told = verdicts(found)
    assert {rule for rule in told if told[rule] == "holds"} >= ASKED, found.rows
    assert told["model-mount"] == "not asked"
    puts = [call for call in azure.cloud.calls[before:] if call.method == "PUT" and call.host == "management.azure.com"]
    assert {call.status for call in puts} >= {201, 400}


def test_its_names_are_such_that_azure_takes_them(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random name may consist of digits, and a cluster's name must not end in a dash and digits."""
    monkeypatch.setattr("tunewright.backends.azure.throwaway.secrets.token_hex", lambda _: "12345678")
    assert verdicts(api.probe(job()))["cluster-series"] == "holds"


def test_a_rule_that_azure_does_not_keep_is_told(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Azure that takes texts as versions of models, and clusters of any size."""
    monkeypatch.setattr(arm, "_refused", lambda *_: None)
    found = api.probe(job())
    assert not found.passed
    wrong = [rule for rule, verdict in verdicts(found).items() if verdict == "does not hold"]
    assert wrong == ["model-version-is-an-integer", "cluster-series"]
    assert "version abc: Azure took it" in found.rows[0].why


def test_a_refusal_for_another_reason_proves_nothing() -> None:
    def verdict(status: int, message: str = "") -> str:
        return judged("r", [AzureAnswer("a cluster", "refused", status, message=message, about="size")]).verdict

    assert verdict(403, "The size is not yours.") == "not asked"
    assert verdict(400, "The workspace is busy.") == "not asked"
    assert verdict(400, "For this size there is no quota.") == "not asked"
    assert verdict(503, "size") == "not asked"
    assert verdict(400, "No such size.") == "holds"
    assert verdict(201) == "does not hold"


def test_the_file_says_of_nobody_who_asked(azure: AzureEmulator, job: MakeJob, tmp_path: Path) -> None:
    spec = job()
    token = connect(spec).credential.get_token("https://management.azure.com/.default").token
    private = [
        SUBSCRIPTION,
        TENANT,
        "kim.doe@example.com",
        token,
        f"/workspaces/{WORKSPACE}",
        f"resourceGroups/{GROUP}",
        ACCOUNT,
        "9f8c2d1e-1111-2222-3333-444455556666",
        "10.20.30.40",
        spec.name,
    ]
    fails(azure, "PUT .*/computes/.*-n$", 400, "BadRequest", f"A size that is not there: {' '.join(private)}")
    found = api.probe(spec)
    assert verdicts(found)["cluster-series"] == "holds"
    found.write(tmp_path / "sent.json")
    text = (tmp_path / "sent.json").read_text("utf-8")
    assert "A size that is not there: <subscription>" in text
    assert not [each[:20] for each in private if each.lower() in text.lower()]
    written = json.loads(text)
    assert written["region"] == "eastus" and written["date"]
    answer = written["rules"][0]["answers"][0]
    assert answer["asked"] == "a model's version abc" and answer["status"] == 400 and answer["code"] == "BadRequest"


@pytest.mark.parametrize("ends", [KeyboardInterrupt, RuntimeError])
def test_what_was_made_goes_however_the_probe_ends(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch, ends: type[BaseException]
) -> None:
    def broken(_: Any) -> None:
        assert standing(azure), "something was made by then"
        raise ends

    monkeypatch.setattr(probing._Questions, "_schedules", broken)
    with pytest.raises(ends):
        api.probe(job())
    assert not standing(azure)


def test_what_can_not_be_taken_away_is_named_with_its_command(
    azure: AzureEmulator, job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(azure, "DELETE .*/computes/tw-probe-", 409, "Conflict", "It is busy.", 1)
    found = api.probe(job())
    assert not found.passed
    (left,) = found.left
    assert (
        left.startswith("az rest --method delete --url 'https://management.azure.com/subscriptions/")
        and "/computes/" in left
    )
    assert left in capsys.readouterr().err
    for path in [each for each in azure.cloud._resources if "tw-probe-" in each]:
        azure.cloud.remove(path)


@pytest.mark.usefixtures("azure")
def test_typed(job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it will make and asks; after a no it makes nothing."""
    spec, out = job(), tmp_path / "out" / "probe.json"
    run = CliRunner().invoke
    refused = run(cli, ["azure", "probe", str(spec.folder), "--out", str(out)], input="n\n")
    assert (
        refused.exit_code == 1 and "cluster of Standard_D4s_v3 with no machine" in refused.output and not out.exists()
    )
    done = run(cli, ["azure", "probe", str(spec.folder), "--out", str(out), "--yes"])
    assert done.exit_code == 0, done.output
    assert "endpoint-name: holds; an endpoint's name of 33 characters: refused (400, BadRequest" in done.output
    assert out.is_file()
    monkeypatch.setattr(arm, "_refused", lambda *_: None)
    assert run(cli, ["azure", "probe", str(spec.folder), "--out", str(out), "--yes"]).exit_code == 1
    assert command.EXIT_GATE == 1
