"""The environment of containers: as in Azure, they get next to nothing from the machine on which they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tunewright.azure_emulator.cloud import TENANT

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The folders of programs in an image."""
_TO_THE_EMULATOR = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that lead clients to the emulator."""
_OF_THIS_MACHINE = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
"""Variables that limit a container's share of this machine, or say where its Python finds libraries."""


def environment_of_containers() -> dict[str, str]:
    """The variables of every container: those of an image, and of the node on which it runs.

    A real container sees nothing of the machine on which the command was typed. So no token or key of this process may
    reach it here either, nor the user's sign-in. HOME is missing, because each container has its own.
    """
    kept = {name: os.environ[name] for name in (*_TO_THE_EMULATOR, *_OF_THIS_MACHINE) if name in os.environ}
    # The proxy refuses plain http to every host.
    plain = {name: os.environ["HTTPS_PROXY"] for name in ("HTTP_PROXY", "http_proxy") if "HTTPS_PROXY" in os.environ}
    return (
        kept
        | plain
        | {
            "PATH": f"{Path(sys.executable).parent}:{_PATH}",
            # A container's working directory comes first, so it runs the package that was sent to it, if there is one.
            "PYTHONPATH": f"{Path(__file__).with_name('closed')}:{Path(__file__).parents[3]}",
            "PYTHONUNBUFFERED": "1",
            "LANG": "C.UTF-8",
        }
    )


def sign_in(principal: str) -> dict[str, str]:
    """The variables that sign clients in to the emulator as a principal, instead of a node's managed identity.

    Args:
        principal: the principal's object id.
    """
    return {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": principal, "AZURE_CLIENT_SECRET": "emulator"}
