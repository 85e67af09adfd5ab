"""The store that the tests of monitoring have, for the review app too."""

from tests.monitoring.conftest import address, folder, postgresql, postgresql_server, spec, store

__all__ = ["address", "folder", "postgresql", "postgresql_server", "spec", "store"]
