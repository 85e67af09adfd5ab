"""Writes a comment on a pull request of GitHub or Azure DevOps. It keeps one comment with a mark up to date. The
comment must be by this token's user, because anybody who opens a pull request can write a mark too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tunewright.core.version import __version__

TRIES = 4
LONGEST_WAIT = 60.0
"""Seconds before one try. The pipeline does not wait for a site that asks for more."""
_TIMEOUT = 30.0
_BUSY = (429, 500, 502, 503, 504)
_GITHUB_VERSION = "2022-11-28"
"""Version of GitHub's REST API; served at least until 2028-03-12, and by GitHub Enterprise Server too (GitHub's
changelog of 2026-03-12)."""
_AZURE_VERSION = "7.1"
"""Version of Azure DevOps' REST API; the newest that is no preview (Microsoft Learn, Pull Request Threads, read
2026-11-28)."""
_PAGE = 100
_NOT_OURS = (403, 404)
"""Answers to a change of a comment that somebody else wrote, or that was deleted meanwhile; it is left alone."""


class NotWritten(Exception):
    """Why there is no comment, in a sentence that never names the token."""


@dataclass(frozen=True)
class CodeHost:
    """An HTTP API with a token."""

    name: str
    address: str
    token: str = field(repr=False)
    headers: Mapping[str, str]
    sleep: Callable[[float], None] = time.sleep

    def ask(self, method: str, path: str, **query: Any) -> httpx.Response:
        """Send a request, a few times where the site is busy. It follows no redirects, so the token goes nowhere else.

        Raises:
            NotWritten: there was no answer.
        """
        headers = {"Authorization": f"Bearer {self.token}", "User-Agent": f"tunewright/{__version__}", **self.headers}
        for number in range(1, TRIES + 1):
            try:
                answer = httpx.request(method, self.address + path, headers=headers, timeout=_TIMEOUT, **query)
            except httpx.HTTPError as error:
                raise NotWritten(f"{self.name} can't be reached ({type(error).__name__}).") from None
            # A POST that failed half-way may have been written all the same, and a second comment is worse than none.
            wait = None if method == "POST" and answer.status_code >= 500 else _wait(answer, number)
            if wait is None or number == TRIES:
                return answer
            if wait > LONGEST_WAIT:
                raise NotWritten(f"{self.name} asks to wait for {wait:,.0f} seconds.")
            self.sleep(wait)
        raise AssertionError


def _wait(answer: httpx.Response, number: int) -> float | None:
    """Seconds until another try is worthwhile; None where it is not. GitHub reports its limits with 403 as well."""
    retry_after = answer.headers.get("retry-after", "")
    spent = answer.headers.get("x-ratelimit-remaining") == "0"
    if answer.status_code not in _BUSY and not (answer.status_code == 403 and (retry_after or spent)):
        return None
    if retry_after.isdigit():
        return float(retry_after)
    reset = answer.headers.get("x-ratelimit-reset", "")
    if spent and reset.isdigit():
        return max(1.0, float(reset) - time.time())
    return float(2**number)


@dataclass(frozen=True)
class GitHub:
    """A pull request on GitHub, whose API treats its comments as those of an issue."""

    site: CodeHost
    repository: str
    """owner/name"""
    number: int
    fork: bool

    @classmethod
    def at(cls, address: str, repository: str, number: int, token: str, *, fork: bool) -> GitHub:
        accept = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": _GITHUB_VERSION}
        return cls(CodeHost("GitHub", address.rstrip("/"), token, accept), repository, number, fork)

    def put(self, mark: str, body: str, *, open_: bool) -> str:  # noqa: ARG002 (GitHub's comments are not resolved)
        """Create or update the comment with a mark, and return its address.

        Raises:
            NotWritten: it could not be written.
        """
        for path in [f"/issues/comments/{number}" for number in self._own(mark)]:
            answer = self.site.ask("PATCH", f"/repos/{self.repository}{path}", json={"body": body})
            if answer.status_code not in _NOT_OURS:
                self._check(answer)
                return str(answer.json().get("html_url", ""))
        answer = self.site.ask("POST", f"{self._issue}/comments", json={"body": body})
        self._check(answer)
        return str(answer.json().get("html_url", ""))

    @property
    def _issue(self) -> str:
        return f"/repos/{self.repository}/issues/{self.number}"

    def _own(self, mark: str) -> list[int]:
        """The ids of this token's comments with a mark, the newest first."""
        marked = [each for each in self._comments() if (each.get("body") or "").startswith(mark)]
        if not marked:
            return []
        me = self.site.ask("GET", "/user")
        # A workflow's token belongs to an app, which has no user.
        login = me.json().get("login") if me.is_success else None
        own = [
            each["id"]
            for each in marked
            if (each["user"]["login"] == login if login else each["user"].get("type") == "Bot")
        ]
        return own[::-1]

    def _comments(self) -> Iterator[dict[str, Any]]:
        page = 1
        while True:
            answer = self.site.ask("GET", f"{self._issue}/comments", params={"per_page": _PAGE, "page": page})
            self._check(answer)
            yield from answer.json()
            if "next" not in answer.links:
                return
            page += 1

    def _check(self, answer: httpx.Response) -> None:
        code = answer.status_code
        if answer.is_success:
            return
        if code == 403 and self.fork:
            raise NotWritten("The pull request comes from a fork, whose runs GitHub lets read only.")
        if code == 403:
            raise NotWritten("GitHub refuses it (403). Give the job `permissions: pull-requests: write`.")
        if code == 404:
            raise NotWritten(
                f"GitHub knows no pull request {self.number} of {self.repository}, or the token may not see it (404)."
            )
        if code == 401:
            raise NotWritten("GitHub does not take the token in GITHUB_TOKEN (401).")
        raise NotWritten(f"GitHub answered {code}.")


@dataclass(frozen=True)
class AzureDevOps:
    """A pull request on Azure DevOps, in a repository of Azure Repos."""

    site: CodeHost
    repository: str
    number: int
    fork: bool

    @classmethod
    def at(cls, collection: str, project: str, repository: str, number: int, token: str, *, fork: bool) -> AzureDevOps:
        address = f"{collection.rstrip('/')}/{project}"
        return cls(CodeHost("Azure DevOps", address, token, {"Accept": "application/json"}), repository, number, fork)

    def put(self, mark: str, body: str, *, open_: bool) -> str:
        """Create or update the thread with a mark, and return its address.

        Args:
            open_: whether the thread is active, because it asks for something to be done.

        Raises:
            NotWritten: it could not be written.
        """
        status = "active" if open_ else "closed"
        for thread, first in self._marked(mark):
            path = f"/{thread['id']}"
            answer = self._ask("PATCH", f"{path}/comments/{first['id']}", {"content": body})
            if answer.status_code not in _NOT_OURS:
                self._check(answer)
                if thread.get("status") != status:
                    self._check(self._ask("PATCH", path, {"status": status}))
                return self._address(path)
        new_thread = {"comments": [{"parentCommentId": 0, "content": body, "commentType": "text"}], "status": status}
        answer = self._ask("POST", "", new_thread)
        self._check(answer)
        return self._address(f"/{answer.json()['id']}")

    def _marked(self, mark: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """(thread, comment) for each thread whose first comment has a mark, the newest first. The API returns all
        threads in one answer."""
        answer = self._ask("GET", "")
        self._check(answer)
        marked = []
        for thread in answer.json()["value"]:
            first: dict[str, Any] = next(iter(thread.get("comments") or ()), {})
            hidden = thread.get("isDeleted") or first.get("isDeleted")
            if not hidden and (first.get("content") or "").startswith(mark):
                marked.append((thread, first))
        return sorted(marked, key=lambda each: -int(each[0]["id"]))

    def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        threads = f"/_apis/git/repositories/{self.repository}/pullRequests/{self.number}/threads"
        query: dict[str, Any] = {} if body is None else {"json": body}
        return self.site.ask(method, threads + path, params={"api-version": _AZURE_VERSION}, **query)

    def _address(self, path: str) -> str:
        return f"{self.site.address}/_git/{self.repository}/pullrequest/{self.number}?discussionId={path.lstrip('/')}"

    def _check(self, answer: httpx.Response) -> None:
        code = answer.status_code
        if code == 200:
            return
        if code in (401, 403, 203, 302) and self.fork:
            raise NotWritten("The pull request comes from a fork, whose runs Azure DevOps lets read only.")
        if code in (401, 403, 203, 302):  # a token without rights gets a sign-in page
            raise NotWritten(
                f"Azure DevOps refuses it ({code}). Pass SYSTEM_ACCESSTOKEN: $(System.AccessToken), and let the build "
                "service contribute to pull requests."
            )
        if code == 404:
            raise NotWritten(
                f"Azure DevOps knows no pull request {self.number} of this repository, or the build service may not "
                "see it (404)."
            )
        raise NotWritten(f"Azure DevOps answered {code}.")


PullRequest = GitHub | AzureDevOps
