"""The emulator's memory: resources, every call, and the faults that a test injects."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

TENANT = "00000000-0000-0000-0000-000000000001"
PERSON = "00000000-0000-0000-0000-000000000002"
"""The object id of the signed-in user."""
_SECRET = re.compile(r"([?&](?:sig|code|key)=)[^&]+")


@dataclass(frozen=True)
class HttpRequest:
    """One request. `path` begins with /, `host` is Azure's real one, header names are lower case."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    target: str = ""
    """The path and the query as they were sent."""

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class HttpResponse:
    """One answer. `body` is a JSON value, or bytes that are sent as they are."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: float = 1.0
    """The share of it that is sent before the connection is cut; at 0 not even the status."""

    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


def error(status: int, code: str, message: str, **headers: str) -> HttpResponse:
    """A refusal in the form of Azure's services."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, {"error": {"code": code, "message": message}}, {"x-ms-error-code": code} | more)


def invalid(code: str, message: str) -> HttpResponse:
    """A refusal of an endpoint or a deployment in the form of Azure ML, with the reason in the detail."""
    detail = {"code": code, "message": message}
    refused = {"code": "BadRequest", "message": "The request is invalid.", "details": [detail]}
    return HttpResponse(400, {"error": refused}, error(400, "BadRequest", "").headers)


def refusal(status: int, code: str, message: str) -> HttpResponse:
    """A refusal in the form of the storage."""
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return HttpResponse(status, body.encode(), {"content-type": "application/xml", "x-ms-error-code": code})


@dataclass(frozen=True)
class RecordedCall:
    """A request that was answered."""

    method: str
    host: str
    path: str
    version: str
    """The api-version that it named."""
    status: int
    sent: int
    """The bytes of its body."""

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path} {self.status}"


BROKEN = HttpResponse(cut=0.0)
"""A fault: the connection is cut before the request is read to its end, and nothing is carried out."""


def lost(answer: HttpResponse) -> HttpResponse:
    """A fault: the request is carried out, but no answer comes back."""
    return replace(answer, cut=0.0)


def half(answer: HttpResponse) -> HttpResponse:
    """A fault: the connection is cut in the middle of the answer."""
    return replace(answer, cut=0.5)


def html(status: int) -> HttpResponse:
    """A page of HTML instead of an answer, as a gateway or a proxy sends it."""
    page = b"<!DOCTYPE html><html><head><title>Service unavailable</title></head><body><h2>Try later</h2></body></html>"
    return HttpResponse(status, page, {"content-type": "text/html"})


def stays(state: str) -> Callable[[HttpResponse], HttpResponse]:
    """A fault: a resource reports this state, whatever its real one is."""

    def changed(answer: HttpResponse) -> HttpResponse:
        if not isinstance(answer.body, dict) or "properties" not in answer.body:
            return answer
        properties = answer.body["properties"] | {"provisioningState": state}
        return replace(answer, body=answer.body | {"properties": properties})

    return changed


@dataclass
class InjectedFault:
    """A fault of the next `times` requests whose `METHOD host/path` matches `pattern`.

    Args:
        answer: replaces the real answer; or a function that changes it, after the request was carried out.
        after: how many such requests are answered correctly before.
    """

    pattern: str
    answer: HttpResponse | Callable[[HttpResponse], HttpResponse]
    times: int = 1
    after: int = 0

    def matches(self, request: HttpRequest) -> bool:
        return self.times > 0 and bool(re.search(self.pattern, f"{request.method} {request.host}{request.path}", re.I))


class Cloud:
    """One subscription with one workspace.

    Args:
        region: the region's name in Azure.
        folder: the folder in which jobs run; the caller that made it removes it.
    """

    def __init__(self, subscription: str, group: str, workspace: str, region: str, folder: Path):
        self.subscription, self.group, self.workspace_name, self.region = subscription, group, workspace, region
        self.folder = folder
        self.lock = threading.RLock()
        self.calls: list[RecordedCall] = []
        self.faults: list[InjectedFault] = []
        self.ahead = 0.0
        """How many seconds its clock is ahead of this machine's."""
        self.violations: list[str] = []
        """Violations of the official schemas in the bodies that were sent."""
        self._resources: dict[str, dict[str, Any]] = {}

    @property
    def workspace(self) -> str:
        """The workspace's path in Resource Manager."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace_name}"
        )

    def get(self, path: str) -> dict[str, Any] | None:
        """The resource at a path; upper and lower case are the same, as in Resource Manager."""
        return self._resources.get(path.lower())

    def put(self, path: str, resource: dict[str, Any]) -> dict[str, Any]:
        """Store a resource, with its id, name and type filled in from its path."""
        after = path.split("/providers/")[-1].split("/")
        kind = "/".join([after[0], *after[1::2]])
        whole = {"id": path, "name": after[-1], "type": kind, "systemData": {}} | resource
        with self.lock:
            self._resources[path.lower()] = whole
        return whole

    def remove(self, path: str) -> bool:
        """Remove a resource and all resources below it."""
        with self.lock:
            gone = [key for key in self._resources if key == path.lower() or key.startswith(f"{path.lower()}/")]
            for key in gone:
                del self._resources[key]
        return bool(gone)

    def below(self, path: str) -> Iterator[dict[str, Any]]:
        """The resources of a collection, in the order in which they were made."""
        start = f"{path.lower()}/"
        with self.lock:
            resources = [
                each for key, each in self._resources.items() if key.startswith(start) and "/" not in key[len(start) :]
            ]
        yield from resources

    def matching(self, pattern: str) -> list[tuple[str, dict[str, Any]]]:
        """The resources whose path has a match of a pattern: (path in lower case, resource)."""
        with self.lock:
            known = list(self._resources.items())
        return [(path, each) for path, each in known if re.search(pattern, path, re.I)]

    @property
    def now(self) -> float:
        """Seconds since 1970, by its own clock."""
        return time.time() + self.ahead

    def fault(self, request: HttpRequest) -> HttpResponse | Callable[[HttpResponse], HttpResponse] | None:
        """The fault of this request, if it has one."""
        with self.lock:
            due = next((fault for fault in self.faults if fault.matches(request)), None)
            if due is None:
                return None
            if due.after:
                due.after -= 1
                return None
            due.times -= 1
        return due.answer

    def note(self, request: HttpRequest, answer: HttpResponse) -> None:
        path = _SECRET.sub(r"\1…", request.path)
        call = RecordedCall(
            request.method, request.host, path, request.query.get("api-version", ""), answer.status, len(request.body)
        )
        with self.lock:
            self.calls.append(call)

    def made(self) -> list[str]:
        """Everything that clients have put, as its kind and name; an asset's name has its version."""
        with self.lock:
            resources = [each for each in self._resources.values() if each.get("made_by_client")]
        return [f"{each['type'].partition('/')[2]} {_short_name(each['id'])}" for each in resources]


def _short_name(path: str) -> str:
    """A resource's name without its subscription, group and workspace; an asset's name with its version."""
    parts = path.split("/providers/")[-1].split("/")
    return ":".join(parts[4::2] if "workspaces" in parts[1] else parts[2::2])
