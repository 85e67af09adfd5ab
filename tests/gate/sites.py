"""What plays GitHub's comments of an issue and Azure DevOps' threads of a pull request."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "ghs_secretsecretsecret"
BOT = {"login": "github-actions[bot]", "type": "Bot"}
STRANGER = {"login": "stranger", "type": "User"}


@dataclass
class Answer:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Site:
    """A site and what it was asked."""

    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    """(method, path with query, body)"""
    first: list[Answer] = field(default_factory=list)
    """What it answers first, in place of what it would."""
    address: str = ""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Answer:
        raise NotImplementedError

    @property
    def written(self) -> list[str]:
        """The methods that change something, in their order."""
        return [method for method, _, _ in self.asked if method != "GET"]


@dataclass
class GitHubSite(Site):
    """The pull request 7 of acme/tickets, whose comments come two a page whatever is asked."""

    comments: list[dict[str, Any]] = field(default_factory=list)
    may_write: bool = True
    user: str | None = None
    """Whose token it is; None: a workflow's."""

    def add(self, body: str, user: dict[str, str] | None = None) -> None:
        user = user or ({"login": self.user, "type": "User"} if self.user else BOT)
        number = len(self.comments) + 1
        address = f"https://github.example/acme/tickets/pull/7#issuecomment-{number}"
        self.comments.append({"id": number, "body": body, "user": user, "html_url": address})

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Answer:
        refused = Answer(403, {"message": "Resource not accessible by integration"})
        if path == "/user":
            return Answer(200, {"login": self.user}) if self.user else refused
        if method != "GET" and not self.may_write:
            return refused
        if path == "/repos/acme/tickets/issues/7/comments":
            if method == "POST":
                self.add(body["body"])
                return Answer(201, self.comments[-1])
            page = int(query["page"][0])
            more = len(self.comments) > 2 * page
            link = {"Link": f'<{self.address}{path}?per_page=2&page={page + 1}>; rel="next"'} if more else {}
            return Answer(200, self.comments[2 * page - 2 : 2 * page], link)
        start, _, number = path.rpartition("/")
        if start == "/repos/acme/tickets/issues/comments" and method == "PATCH":
            self.comments[int(number) - 1]["body"] = body["body"]
            return Answer(200, self.comments[int(number) - 1])
        return Answer(404, {"message": "Not Found"})


@dataclass
class AzureSite(Site):
    """The pull request 7 of the repository `repo` in the project `project`."""

    threads: list[dict[str, Any]] = field(default_factory=list)
    may_write: bool = True

    def add(self, content: str, *, ours: bool = True, **more: Any) -> dict[str, Any]:
        number = len(self.threads) + 1
        comment = {"id": 1, "content": content, "ours": ours, "commentType": "text"}
        self.threads.append({"id": number, "comments": [comment], "status": "active", "isDeleted": False, **more})
        return self.threads[-1]

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Answer:
        start = "/acme/project/_apis/git/repositories/repo/pullRequests/7/threads"
        if not path.startswith(start):
            return Answer(404)
        if query.get("api-version") != ["7.1"]:
            return Answer(400, {"message": "No api-version was supplied"})
        if method != "GET" and not self.may_write:
            return Answer(403, {"message": "TF401027: You need the Git 'PullRequestContribute' permission"})
        match path.removeprefix(start).strip("/").split("/"):
            case [""] if method == "GET":
                return Answer(200, {"value": self.threads, "count": len(self.threads)})
            case [""]:
                (comment,) = body["comments"]
                return Answer(200, self.add(comment["content"], status=body["status"]))
            case [thread]:
                self.threads[int(thread) - 1]["status"] = body["status"]
                return Answer(200, self.threads[int(thread) - 1])
            case [thread, "comments", "1"]:
                comment = self.threads[int(thread) - 1]["comments"][0]
                if not comment["ours"]:
                    return Answer(403, {"message": "TF401181"})
                comment["content"] = body["content"]
                return Answer(200, comment)
        return Answer(404)


@contextmanager
def served(site: Site, token: str = TOKEN) -> Iterator[None]:
    """Serve it at `site.address`; whoever comes with another token is not let in."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            address, length = urlsplit(self.path), int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            site.asked.append((self.command, self.path, body))
            if self.headers.get("Authorization") != f"Bearer {token}":
                answer = Answer(401, {"message": "Bad credentials"})
            elif site.first:
                answer = site.first.pop(0)
            else:
                answer = site.answer(self.command, address.path, parse_qs(address.query), body)
            sent = json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PATCH = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
