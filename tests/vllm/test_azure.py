"""vLLM's image on an endpoint of the emulator: its real command line with vLLM's CPU build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from tests.backends.azure.served import entered
from tests.conftest import make_spec
from tests.vllm.conftest import MODEL, TASKS
from tunewright.azure_emulator import emulated_azure
from tunewright.backends.azure.connection import connect
from tunewright.deploy.endpoint import ManagedEndpoint
from tunewright.models.resolve import fetch

WORKSPACE = ("00000000-0000-0000-0000-00000000feed", "group", "space")


def test_a_language_model_is_served_by_the_container_that_would_serve_it(
    make_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = make_bundle("classify")
    fetch(MODEL, tmp_path)
    machine = {"machine": "Standard_NC4as_T4_v3"}
    spec = make_spec(
        tmp_path,
        name="classify",
        model=MODEL,
        task=TASKS["classify"],
        traffic=machine,
        azure={"workspace": "/".join(WORKSPACE)},
    )
    with emulated_azure(*WORKSPACE, "eastus", seasoned=True) as azure:
        target = ManagedEndpoint(spec, connect(spec), "vllm", entered(spec, bundle), 1)
        target.create()
        address = target._address()
        body = {"model": "classify", "messages": [{"role": "user", "content": "I want my money back."}]}
        reply = httpx.post(f"{address.url}/chat/completions", json=body, headers=dict(address.headers()), timeout=300)
        assert reply.raise_for_status().json()["choices"][0]["message"]["content"] in TASKS["classify"]["labels"]
        (standing,) = azure.endpoints._standing.values()
        assert standing.server
        command = Path(f"/proc/{standing.server._process.pid}/cmdline").read_bytes().decode().split("\0")
        assert command[1:8] == ["-m", "tunewright", "serve", "--engine", "vllm", "--host", "127.0.0.1"]
        target.live.remove()
