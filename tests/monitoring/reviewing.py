"""A review app and the browsers of people who are signed in to it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
from starlette.testclient import TestClient

from tests.conftest import spec_data
from tunewright.config import parse_spec
from tunewright.monitoring.store import Store
from tunewright.review.answers import AnswerForm
from tunewright.review.app import build_app
from tunewright.review.people import Person, Role
from tunewright.review.site import Site
from tunewright.tasks import Task, task_of

LABELS = {"billing": "about an invoice", "defect": "something is broken", "refund": "wants money back"}
RECORD = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "vendor": {"type": "string"}},
    "required": ["total"],
}
EXTRACT = {"kind": "extract", "instruction": "Read:\n{fields}", "schema": RECORD}
GENERATE = {"kind": "generate", "instruction": "Answer."}


def task(section: dict[str, Any] | None = None) -> Task:
    changes = {"task": section} if section else {}
    return task_of(parse_spec(json.dumps(spec_data(**changes)), Path("/nowhere/tunewright.yaml")).task)


def site_with(store: Store, section: dict[str, Any] | None = None, **more: Any) -> Site:
    return Site(store, "tickets", AnswerForm(task(section), {} if section else LABELS), **more)


class Browser(TestClient):
    """Somebody's, who is signed in."""

    def __init__(self, site: Site, name: str = "ann", role: Role = "reviewer"):
        super().__init__(build_app(site), base_url="http://127.0.0.1:8090", follow_redirects=True)
        self.site = site
        identity = site.sessions.begin(Person(name, role))
        self.cookies.set("tunewright-review-8090", identity)
        found = site.sessions.find(identity)
        assert found
        self.csrf = found.csrf

    def submit(self, path: str, **form: Any) -> httpx.Response:
        """Post a form of the app's own."""
        return self.post(path, data={"csrf": self.csrf, **form})

    def shown(self) -> str:
        """The id of the capture that the queue shows now."""
        return re.findall(r'action="/item/(\w+)"', self.get("/").text)[0]
