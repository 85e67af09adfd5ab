"""The store: captures, reviews, deployments, alarms and tallies, in SQLite beside the spec or in PostgreSQL."""

from tunewright.monitoring.store.database import Store, open_store

__all__ = ["Store", "open_store"]
