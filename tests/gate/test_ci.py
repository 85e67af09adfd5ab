"""The gate in a pipeline: the summary, the comment, and a warning where there can be none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gate.sites import TOKEN, AzureSite, GitHubSite
from tests.gate.test_comment import GATE
from tunewright.core.errors import UserError
from tunewright.gate.ci import publish
from tunewright.gate.comment import markdown


def pull_request(head: str | None = "acme/tickets", number: int = 7) -> dict[str, object]:
    """As GitHub writes it for a workflow; `head` is where the branch lies, None where that is gone."""
    repository = {"full_name": head} if head else None
    return {"pull_request": {"number": number, "head": {"repo": repository}}}


def on_github(folder: Path, site: GitHubSite, event: object = None) -> dict[str, str]:
    file = folder / "event.json"
    file.write_text(json.dumps(pull_request() if event is None else event), "utf-8")
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": site.address,
        "GITHUB_REPOSITORY": "acme/tickets",
        "GITHUB_EVENT_PATH": str(file),
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_OUTPUT": str(folder / "output"),
    }


def on_azure(folder: Path, site: AzureSite) -> dict[str, str]:
    return {
        "TF_BUILD": "True",
        "SYSTEM_COLLECTIONURI": f"{site.address}/acme/",
        "SYSTEM_TEAMPROJECTID": "project",
        "BUILD_REPOSITORY_ID": "repo",
        "BUILD_REPOSITORY_PROVIDER": "TfsGit",
        "SYSTEM_ACCESSTOKEN": TOKEN,
        "SYSTEM_PULLREQUEST_PULLREQUESTID": "7",
        "SYSTEM_PULLREQUEST_ISFORK": "False",
        "AGENT_TEMPDIRECTORY": str(folder),
        "BUILD_REASON": "PullRequest",
    }


def test_on_github_it_writes_summary_outputs_and_comment(tmp_path: Path, github: GitHubSite) -> None:
    environ = on_github(tmp_path, github)
    (line,) = publish(GATE, environ)
    assert line == "Comment: https://github.example/acme/tickets/pull/7#issuecomment-1"
    assert [each["body"] for each in github.comments] == [markdown(GATE)]
    assert (tmp_path / "summary.md").read_text("utf-8") == markdown(GATE) + "\n"
    assert (tmp_path / "output").read_text("utf-8") == "passed=false\ndecision=switch\n"
    publish(replace(GATE, sentence="Now another."), environ)
    assert len(github.comments) == 1
    assert "Now another." in github.comments[0]["body"]


def test_on_azure_it_uploads_a_summary_and_writes_a_thread(tmp_path: Path, azure: AzureSite) -> None:
    summary, line = publish(GATE, on_azure(tmp_path, azure))
    command, _, file = summary.partition("]")
    assert command == "##vso[task.uploadsummary"
    assert Path(file).name == "tickets.md"
    assert Path(file).read_text("utf-8") == markdown(GATE) == azure.threads[0]["comments"][0]["content"]
    assert line.startswith("Comment: ")
    assert azure.threads[0]["status"] == "active"


@pytest.mark.parametrize("head", ["stranger/tickets", None], ids=["fork", "fork that is gone"])
def test_on_a_forks_pull_request_the_summary_is_all(head: str | None, tmp_path: Path, github: GitHubSite) -> None:
    github.may_write = False
    (line,) = publish(GATE, on_github(tmp_path, github, pull_request(head)))
    assert line.startswith(
        "::warning title=tunewright gate::No comment was written; the verdict is in the run's summary."
    )
    assert "comes from a fork" in line
    assert (tmp_path / "summary.md").read_text("utf-8") == markdown(GATE) + "\n"


def test_on_a_forks_pull_request_of_azure_the_summary_is_all(tmp_path: Path, azure: AzureSite) -> None:
    azure.may_write = False
    summary, line = publish(GATE, on_azure(tmp_path, azure) | {"SYSTEM_PULLREQUEST_ISFORK": "True"})
    assert summary.startswith("##vso[task.uploadsummary]")
    assert line.startswith("##vso[task.logissue type=warning]No comment was written")
    assert "comes from a fork" in line


def test_a_push_has_a_summary_only(tmp_path: Path, github: GitHubSite, azure: AzureSite) -> None:
    push = on_github(tmp_path, github, {"ref": "refs/heads/main"}) | {"GITHUB_EVENT_NAME": "push"}
    assert "This run is for no pull request (push)." in publish(GATE, push)[-1]
    manual = on_azure(tmp_path, azure) | {"SYSTEM_PULLREQUEST_PULLREQUESTID": "", "BUILD_REASON": "Manual"}
    assert "This run is for no pull request (Manual)." in publish(GATE, manual)[-1]
    assert not github.asked
    assert not azure.asked


@pytest.mark.parametrize("token", ["", "$(System.AccessToken)"])
def test_a_missing_token_is_named(token: str, tmp_path: Path, github: GitHubSite, azure: AzureSite) -> None:
    assert (
        "SYSTEM_ACCESSTOKEN is not set" in publish(GATE, on_azure(tmp_path, azure) | {"SYSTEM_ACCESSTOKEN": token})[-1]
    )
    if not token:
        assert "GITHUB_TOKEN is not set" in publish(GATE, on_github(tmp_path, github) | {"GITHUB_TOKEN": token})[-1]


def test_a_pipeline_of_azure_for_a_repository_of_github_says_so(tmp_path: Path, azure: AzureSite) -> None:
    line = publish(GATE, on_azure(tmp_path, azure) | {"BUILD_REPOSITORY_PROVIDER": "GitHub"})[-1]
    assert "not in Azure Repos but GitHub" in line


def test_elsewhere_it_says_what_to_type() -> None:
    with pytest.raises(UserError, match="neither GitHub Actions nor Azure Pipelines") as error:
        publish(GATE, {})
    assert "--markdown FILE" in str(error.value)


def test_no_line_names_the_token(tmp_path: Path, github: GitHubSite, azure: AzureSite) -> None:
    for may_write in (True, False):
        github.may_write = azure.may_write = may_write
        for environ in (on_github(tmp_path, github), on_azure(tmp_path, azure)):
            assert TOKEN not in "".join(publish(GATE, environ))
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or TOKEN not in file.read_text("utf-8")
