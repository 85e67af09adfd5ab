"""Sites of the two kinds, on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gate.sites import AzureSite, GitHubSite, served


@pytest.fixture
def github() -> Iterator[GitHubSite]:
    site = GitHubSite()
    with served(site):
        yield site


@pytest.fixture
def azure() -> Iterator[AzureSite]:
    site = AzureSite()
    with served(site):
        yield site
