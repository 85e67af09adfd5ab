"""What a container has of the machine it runs on: as in Azure, next to nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tunewright.azure_emulator.cloud import TENANT

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs lie in an image."""
_TO_THE_STAND_IN = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""What leads clients to the emulator."""
_OF_THIS_MACHINE = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
"""How much of this machine a container may take, and where its Python finds libraries."""


def environment_of_containers() -> dict[str, str]:
    """The variables that a container has before what is asked for it: those of an image and of where it runs.

    A real one sees nothing of the machine where the command was typed, so a token or a key of this process must not
    reach it here either, nor the sign-in of who typed it. HOME is missing: each container has one of its own.
    """
    kept = {name: os.environ[name] for name in (*_TO_THE_STAND_IN, *_OF_THIS_MACHINE) if name in os.environ}
    # The proxy refuses plain http, whoever it is for.
    plain = {name: os.environ["HTTPS_PROXY"] for name in ("HTTP_PROXY", "http_proxy") if "HTTPS_PROXY" in os.environ}
    return (
        kept
        | plain
        | {
            "PATH": f"{Path(sys.executable).parent}:{_PATH}",
            # A container's working directory comes first, so it runs the package that was sent to it, if one was.
            "PYTHONPATH": f"{Path(__file__).with_name('closed')}:{Path(__file__).parents[3]}",
            "PYTHONUNBUFFERED": "1",
            "LANG": "C.UTF-8",
        }
    )


def sign_in(principal: str) -> dict[str, str]:
    """The variables that sign clients in to the emulator as a principal, in place of a node's managed identity.

    Args:
        principal: its object id.
    """
    return {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": principal, "AZURE_CLIENT_SECRET": "emulator"}
