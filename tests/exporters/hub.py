"""A server that plays the Hugging Face Hub's API, as huggingface_hub 2.4 asks it: repositories, LFS, commits, files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_secret_of_the_test"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        """The id of the main branch's newest commit."""
        return _sha1(str(len(self.commits)).encode())


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@dataclass
class Fault:
    """What goes wrong, the next `times` times that `METHOD path` matches."""

    pattern: str
    status: int
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "refused"


@dataclass
class Hub:
    """Its state."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, dict[str, str], object]:
        self.calls.append(f"{method} {path}")
        for fault in self.faults:
            if fault.times and re.search(fault.pattern, f"{method} {path}"):
                fault.times -= 1
                return fault.status, fault.headers | {"X-Error-Message": fault.message}, {"error": fault.message}
        if method == "PUT" and path.startswith("/lfs/"):  # a signed address, which needs no token
            self.objects[path.rpartition("/")[2]] = body
            return 200, {}, {}
        if token != f"Bearer {TOKEN}":
            return 401, {}, {"error": "Invalid username or password."}
        if path == "/api/validate-yaml":
            return self._validated(json.loads(body))
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if result := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            return self._info(result[1])
        if result := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            return self._modes(json.loads(body))
        if result := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        if result := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            return self._commit(result[1], [json.loads(line) for line in body.splitlines()])
        if result := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/main", path):
            return self._info(result[1])
        if result := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[0-9a-f]+", path):
            return self._tree(result[1])
        if result := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(?:main|[0-9a-f]+)/(.+)", path):
            return self._file(result[1], result[2])
        return 404, {}, {"error": path}

    def _create(self, asked: dict) -> tuple[int, dict[str, str], object]:
        name = f"{asked['organization']}/{asked['name']}"
        known = name in self.repositories
        if not known:
            self.repositories[name] = Repository(asked.get("visibility") == "private")
        return 409 if known else 200, {}, {"url": f"{self.url}/{name}", "name": name, "id": name}

    def _validated(self, asked: dict) -> tuple[int, dict[str, str], object]:
        """The card's front matter, as the hub looks at it before a commit."""
        from ruamel.yaml import YAML

        front = YAML(typ="safe").load(asked["content"].split("---\n")[1])
        base = front.get("base_model")
        if base is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
            return 400, {}, {"errors": [{"message": '"base_model" with value is not valid'}], "warnings": []}
        return 200, {}, {"errors": [], "warnings": []}

    def _info(self, name: str) -> tuple[int, dict[str, str], object]:
        if name not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"}
        known = self.repositories[name]
        files = [{"rfilename": file} for file in known.files]
        info = {"id": name, "private": known.private, "siblings": files, "tags": [], "downloads": 0}
        return 200, {}, info | {"sha": known.commit}

    def _tree(self, name: str) -> tuple[int, dict[str, str], object]:
        files = self.repositories[name].files.items()
        entries = [{"type": "file", "path": path, "size": len(each), "oid": _sha1(each)} for path, each in files]
        return 200, {}, entries

    def _file(self, name: str, path: str) -> tuple[int, dict[str, str], object]:
        known = self.repositories[name]
        if path not in known.files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": known.commit}, {"error": "Entry not found"}
        content = known.files[path]
        return 200, {"ETag": f'"{_sha1(content)}"', "X-Repo-Commit": known.commit}, content

    def _modes(self, asked: dict) -> tuple[int, dict[str, str], object]:
        def mode(path: str) -> str:
            return "lfs" if path.endswith((".safetensors", ".gguf")) else "regular"

        return (
            200,
            {},
            {
                "files": [
                    {"path": each["path"], "uploadMode": mode(each["path"]), "shouldIgnore": False, "oid": None}
                    for each in asked["files"]
                ]
            },
        )

    def _batch(self, asked: dict) -> tuple[int, dict[str, str], object]:
        return (
            200,
            {"Content-Type": "application/vnd.git-lfs+json"},
            {
                "transfer": "basic",
                "objects": [
                    {
                        "oid": each["oid"],
                        "size": each["size"],
                        "actions": {"upload": {"href": f"{self.url}/lfs/{each['oid']}", "header": {}}},
                    }
                    for each in asked["objects"]
                ],
            },
        )

    def _commit(self, name: str, lines: list[dict]) -> tuple[int, dict[str, str], object]:
        known = self.repositories[name]
        files = dict(known.files)
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    known.commits.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    content = self.objects[value["oid"]]
                    assert hashlib.sha256(content).hexdigest() == value["oid"]
                    files[value["path"]] = content
                case "deletedFile":
                    del files[value["path"]]
        known.files = files
        url = f"{self.url}/{name}/commit/{known.commit}"
        return 200, {}, {"success": True, "commitOid": known.commit, "commitUrl": url, "hookOutput": ""}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """The hub on a port of its own."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path.partition("?")[0]
            token = self.headers.get("authorization", "")
            status, headers, reply = hub.answer(self.command, path, token, body)
            content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = _any

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
