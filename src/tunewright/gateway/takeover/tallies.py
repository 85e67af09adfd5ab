"""Adding up what each job was asked and answered, and writing it to the store."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from tunewright.gateway.takeover.store import AMOUNTS, GatewayStore, storable

BOUNDS = tuple(0.001 * 1.1**step for step in range(140))
"""Upper bounds of the buckets of latencies in seconds, a millisecond to ten minutes, each a tenth above the last."""


_Key = tuple[date, str, str, str]
"""Day, job, mode and version."""


class Tallies:
    """The tallies of this process. Thread-safe."""

    def __init__(self, store: GatewayStore):
        self._store = store
        self._name = f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lock = threading.Lock()
        self._rows: dict[_Key, dict[str, Any]] = {}
        self._changed: set[_Key] = set()

    def add(self, job: str, mode: str, version: str, model: str | None = None, **amounts: float) -> None:
        """Add amounts to a job's row of today.

        Args:
            model: the API's model that the request named.
            amounts: of `AMOUNTS`; and own_seconds or api_seconds, one latency.
        """
        today = datetime.now(UTC).date()
        key = today, job, mode, storable(version)
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = {
                    "day": today,
                    "job": job,
                    "mode": mode,
                    "version": key[3],
                    "gateway": self._name,
                    "model": "",
                    "own_seconds": {},
                    "api_seconds": {},
                    **dict.fromkeys(AMOUNTS, 0.0),
                }
            row["model"] = storable(model) if model else row["model"]
            for name, amount in amounts.items():
                if name.endswith("_seconds"):
                    bucket = str(min(bisect_left(BOUNDS, amount), len(BOUNDS) - 1))
                    row[name][bucket] = row[name].get(bucket, 0) + 1
                else:
                    row[name] += amount
            self._changed.add(key)

    def flush(self) -> None:
        """Write what has changed.

        Raises:
            UserError: the store can't be written. Nothing is lost; the next call tries again.
        """
        with self._lock:
            changed = self._changed
            rows = [_copied(self._rows[key]) for key in changed]
            self._changed = set()
        if not rows:
            return
        try:
            self._store.save(rows)
        except BaseException:
            with self._lock:
                self._changed |= changed
            raise
        today = datetime.now(UTC).date()
        with self._lock:
            for key in changed - self._changed:
                if key[0] != today:
                    del self._rows[key]


def summed(histograms: Sequence[Mapping[str, int]]) -> list[int]:
    """Stored histograms added up: counts by the buckets of `BOUNDS`."""
    counts = [0] * len(BOUNDS)
    for histogram in histograms:
        for bucket, count in histogram.items():
            counts[int(bucket)] += count
    return counts


def _copied(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in row.items()}
