"""Whether a workspace has a managed network, as the real SDK tells it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from azure.ai.ml.constants._workspace import IsolationMode
from azure.ai.ml.entities import ManagedNetwork

from tunewright.backends.azure.probe import is_isolated

pytestmark = pytest.mark.slow  # its libraries take seconds to import


@pytest.mark.parametrize(
    ("mode", "isolated"),
    [
        (IsolationMode.DISABLED, False),
        ("Disabled", False),
        (None, False),
        (IsolationMode.ALLOW_ONLY_APPROVED_OUTBOUND, True),
        ("AllowInternetOutbound", True),
    ],
)
def test_a_managed_network_is_told_by_its_mode(mode: Any, isolated: bool) -> None:
    network = ManagedNetwork(isolation_mode=mode) if mode else None
    assert is_isolated(SimpleNamespace(managed_network=network)) is isolated
