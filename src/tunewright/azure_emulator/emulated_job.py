"""A job of the emulator: what was sent, and how far it is."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tunewright.azure_emulator.cloud import PERSON
from tunewright.azure_emulator.login import principal_of
from tunewright.core.processes import free_port

OVER = ("Completed", "Failed", "Canceled")


@dataclass
class EmulatedJob:
    """One command job, alone or in a pipeline."""

    name: str
    body: dict[str, Any]
    """`properties` as they were sent."""
    parent: str | None = None
    status: str = "Queued"
    started: float | None = None
    ended: float | None = None
    error: str | None = None
    attempts: int = 0
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    cancelled: bool = False
    is_signed_in: bool = True
    """Whether a user has submitted it, as whom it may run."""

    @property
    def is_as_user(self) -> bool:
        """Whether it reads and writes as who submits it, by its own words."""
        return self._identity("identityType", "identity_type").lower() == "useridentity"

    @property
    def principal(self) -> str:
        """The object id of whom it reads and writes as: of its managed identity, or else of who submits it."""
        named = self._identity("resourceId", "resource_id")
        return principal_of(named) if named else PERSON

    def _identity(self, *keys: str) -> str:
        """What its identity has under one of some keys: jobs and parts of pipelines spell them differently."""
        identity = self.body.get("identity") or {}
        return str(next((identity[key] for key in keys if identity.get(key)), ""))

    @property
    def client_status(self) -> str:
        """Its status, as clients are told it."""
        return "CancelRequested" if self.cancelled and self.status not in OVER else self.status

    @property
    def seconds(self) -> float:
        """That its nodes have cost so far."""
        return (self.ended or time.time()) - self.started if self.started else 0.0

    @property
    def compute(self) -> str:
        return str(self.body.get("computeId") or "").rpartition("/")[2]

    @property
    def instances(self) -> int:
        return int((self.body.get("resources") or {}).get("instanceCount") or 1)


def artifact_folder(job: EmulatedJob) -> str:
    """Where a job's log and artifacts lie in the storage."""
    return f"ExperimentRun/dcid.{job.name}"


def timestamp(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None


def rank_variables(job: EmulatedJob) -> Iterable[dict[str, str]]:
    """The variables of each process of a distributed job, as Azure ML sets them; of others, none."""
    distribution = job.body.get("distribution") or {}
    if distribution.get("distributionType") != "PyTorch":
        return [{}]
    each = int(distribution.get("processCountPerInstance") or 1)
    world, port = each * job.instances, str(free_port())
    return [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank % each),
            "NODE_RANK": str(rank // each),
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(each),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        for rank in range(world)
    ]


def duration_seconds(duration: str | None) -> float:
    """ISO 8601 durations as the SDK writes them: PT90S, PT1H30M."""
    found = re.fullmatch(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?", duration or "")
    return (
        sum(float(n or 0) * unit for n, unit in zip(found.groups(), (86400, 3600, 60, 1), strict=True)) if found else 0
    )
