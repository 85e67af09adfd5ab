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
    """Whether a user has submitted it, so that it may run as that user."""

    @property
    def is_as_user(self) -> bool:
        """Whether its body says that it reads and writes as the user who submits it."""
        return self._identity("identityType", "identity_type").lower() == "useridentity"

    @property
    def principal(self) -> str:
        """The object id of the principal as which it reads and writes: its managed identity, or the user who submits
        it."""
        resource = self._identity("resourceId", "resource_id")
        return principal_of(resource) if resource else PERSON

    def _identity(self, *keys: str) -> str:
        """The first value of its identity under some keys: jobs and parts of pipelines spell them differently."""
        identity = self.body.get("identity") or {}
        return str(next((identity[key] for key in keys if identity.get(key)), ""))

    @property
    def client_status(self) -> str:
        """Its status, as clients see it."""
        return "CancelRequested" if self.cancelled and self.status not in OVER else self.status

    @property
    def seconds(self) -> float:
        """How long its nodes have run so far."""
        return (self.ended or time.time()) - self.started if self.started else 0.0

    @property
    def compute(self) -> str:
        return str(self.body.get("computeId") or "").rpartition("/")[2]

    @property
    def instances(self) -> int:
        return int((self.body.get("resources") or {}).get("instanceCount") or 1)


def artifact_folder(job: EmulatedJob) -> str:
    """The folder in the storage of a job's log and artifacts."""
    return f"ExperimentRun/dcid.{job.name}"


def timestamp(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None


def rank_variables(job: EmulatedJob) -> Iterable[dict[str, str]]:
    """The variables of each process of a distributed job, as Azure ML sets them; another job has one process without
    any."""
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
    """The seconds of an ISO 8601 duration as the SDK writes it, such as PT90S or PT1H30M; 0 if it is none."""
    match = re.fullmatch(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?", duration or "")
    return (
        sum(float(n or 0) * unit for n, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True)) if match else 0
    )
