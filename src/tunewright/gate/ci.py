"""The pipeline that the gate runs in: GitHub Actions or Azure Pipelines. The verdict goes into the run's summary and,
on a pull request, into a comment. If the comment can't be written, that is a warning and changes no exit code."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.gate.comment import mark, markdown
from tunewright.gate.judge import Gate
from tunewright.gate.post import AzureDevOps, GitHub, NotWritten, PullRequest


def publish(judged: Gate, environ: Mapping[str, str]) -> list[str]:
    """Publish a judged verdict in the pipeline of this process.

    Args:
        environ: the environment's variables.

    Returns:
        Lines to print; some are commands for the runner.

    Raises:
        UserError: this process runs in no known pipeline.
    """
    on_github, on_azure = environ.get("GITHUB_ACTIONS") == "true", environ.get("TF_BUILD", "").lower() == "true"
    if not on_github and not on_azure:
        raise UserError(
            "There is no pull request to comment on.",
            where="--comment",
            why="This is neither GitHub Actions nor Azure Pipelines.",
            fix="Type --markdown FILE to have the comment in a file, and post that.",
        )
    text = markdown(judged)
    lines = []
    if on_github:
        _github_files(judged, text, environ)
    else:
        lines.append(_azure_summary(judged, text, environ))
    try:
        pull_request = _github(environ) if on_github else _azure(environ)
        lines.append(f"Comment: {pull_request.put(mark(judged.name), text, open_=not judged.passed)}")
    except NotWritten as why:
        lines.append(_warning(f"No comment was written; the verdict is in the run's summary. {why}", github=on_github))
    return lines


def _github_files(judged: Gate, text: str, environ: Mapping[str, str]) -> None:
    """Append to the job's summary and to the step's outputs."""
    outputs = f"passed={str(judged.passed).lower()}\ndecision={judged.decision}\n"
    for name, content in (("GITHUB_STEP_SUMMARY", text + "\n"), ("GITHUB_OUTPUT", outputs)):
        if file := environ.get(name):
            with Path(file).open("a", encoding="utf-8") as stream:
                stream.write(content)


def _azure_summary(judged: Gate, text: str, environ: Mapping[str, str]) -> str:
    folder = Path(tempfile.mkdtemp(prefix="tunewright-", dir=environ.get("AGENT_TEMPDIRECTORY")))
    file = folder / f"{judged.name}.md"
    file.write_text(text, "utf-8")
    return f"##vso[task.uploadsummary]{file}"


def _github(environ: Mapping[str, str]) -> PullRequest:
    """The pull request that a GitHub workflow runs for."""
    try:
        event = json.loads(Path(environ["GITHUB_EVENT_PATH"]).read_text("utf-8"))
    except (KeyError, OSError, ValueError):
        event = {}
    pull = event.get("pull_request")
    if not pull:
        raise NotWritten(f"This run is for no pull request ({environ.get('GITHUB_EVENT_NAME', 'no event')}).")
    token = environ.get("GITHUB_TOKEN", "").strip()
    if not token:
        raise NotWritten("GITHUB_TOKEN is not set.")
    repository = environ["GITHUB_REPOSITORY"]
    head = ((pull.get("head") or {}).get("repo") or {}).get("full_name")
    address = environ.get("GITHUB_API_URL", "https://api.github.com")
    return GitHub.at(address, repository, int(pull["number"]), token, fork=head != repository)


def _azure(environ: Mapping[str, str]) -> PullRequest:
    """The pull request that an Azure DevOps pipeline runs for."""
    number = environ.get("SYSTEM_PULLREQUEST_PULLREQUESTID", "")
    if not number.isdigit():
        raise NotWritten(f"This run is for no pull request ({environ.get('BUILD_REASON', 'no reason')}).")
    provider = environ.get("BUILD_REPOSITORY_PROVIDER", "TfsGit")
    if provider != "TfsGit":
        raise NotWritten(f"The repository is not in Azure Repos but {provider}, where this token has no rights.")
    token = environ.get("SYSTEM_ACCESSTOKEN", "").strip()
    if not token or token.startswith("$("):  # Azure leaves an unset variable as written
        raise NotWritten("SYSTEM_ACCESSTOKEN is not set. Pass it: SYSTEM_ACCESSTOKEN: $(System.AccessToken).")
    return AzureDevOps.at(
        environ["SYSTEM_COLLECTIONURI"],
        environ["SYSTEM_TEAMPROJECTID"],
        environ["BUILD_REPOSITORY_ID"],
        int(number),
        token,
        fork=environ.get("SYSTEM_PULLREQUEST_ISFORK", "").lower() == "true",
    )


def _warning(text: str, *, github: bool) -> str:
    """The runner's command for a warning that it shows with the run."""
    text = text.replace("%", "%25" if github else "%AZP25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::warning title=tunewright gate::{text}" if github else f"##vso[task.logissue type=warning]{text}"
