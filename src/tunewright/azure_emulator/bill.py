"""The emulator's report at its end: the calls, assets and machines that a real run would need."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tunewright.azure_emulator.cloud import Cloud
from tunewright.azure_emulator.emulated_job import EmulatedJob
from tunewright.azure_emulator.jobs import Runner
from tunewright.azure_emulator.network import BLOBS
from tunewright.economics.cost import HOURS_A_MONTH
from tunewright.economics.prices import price_book


@dataclass(frozen=True)
class BilledMachine:
    """One job's machines, or a deployment's."""

    step: str
    size: str
    count: int
    seconds: float
    """The time that it took here; machines in Azure take another time."""
    usd: float
    """The cost of that time at the price book's price."""


@dataclass(frozen=True)
class Bill:
    calls: dict[str, int]
    """How many requests of each kind."""
    uploaded: int
    """Bytes that went to the storage."""
    assets: list[str]
    """Everything that was made: kind, name and version."""
    machines: list[BilledMachine]
    standing: list[BilledMachine]
    """Machines of endpoints, which would run until they are removed; `usd` is the cost of a month."""
    refused: list[str]
    """Requested hosts that are not Azure's; nothing was sent there."""
    violations: list[str]
    """Violations of the official schemas."""

    @property
    def usd(self) -> float:
        return sum(machine.usd for machine in self.machines)

    @property
    def lines(self) -> list[str]:
        """The report, for people."""
        calls = [f"  {count:>5} x {what}" for what, count in self.calls.items()]
        assets = [f"  {asset}" for asset in self.assets]
        left = [f"  {m.step}: {m.count} x {m.size}, ${m.usd:,.2f} a month" for m in self.standing]
        ran = [f"  {m.step}: {m.count} x {m.size}, {m.seconds / 60:.1f} min here, ${m.usd:.4f}" for m in self.machines]
        violations = [f"  {each}" for each in self.violations]
        refused = [f"  {host} ({count} x)" for host, count in Counter(self.refused).items()]
        return [
            "Emulated: nothing was sent to Azure. The real run would make these calls",
            *calls,
            f"send {self.uploaded / 1e6:.1f} MB to the storage, make",
            *assets,
            f"and rent, for as long as it took here, machines for ${self.usd:.2f}:",
            *ran,
            *(["These machines run, and cost money, until they are removed:", *left] if left else []),
            *(["Requests to these hosts were refused:", *refused] if refused else []),
            *(["The official schemas don't allow:", *violations] if violations else []),
        ]


def bill_of(cloud: Cloud, runner: Runner, refused: list[str]) -> Bill:
    """The report of what has happened so far."""
    uploads = [call for call in cloud.calls if call.host.endswith(BLOBS) and call.method == "PUT"]
    machines = [_machine(cloud, job) for job in runner.jobs.values() if job.started and "command" in job.body]
    return Bill(
        dict(sorted(Counter(f"{call.method} {_service(call.host)}" for call in cloud.calls).items())),
        sum(call.sent for call in uploads),
        cloud.made(),
        machines,
        _standing(cloud),
        list(refused),
        list(cloud.violations),
    )


def _machine(cloud: Cloud, job: EmulatedJob) -> BilledMachine:
    cluster = cloud.get(f"{cloud.workspace}/computes/{job.compute}") or {"properties": {"properties": {}}}
    size = cluster["properties"]["properties"].get("vmSize", "")
    priced = price_book().machines.get(size)
    usd = job.seconds / 3600 * job.instances * priced.usd_per_hour if priced else 0.0
    return BilledMachine(job.body.get("displayName") or job.name, size, job.instances, job.seconds, usd)


def _standing(cloud: Cloud) -> list[BilledMachine]:
    """The machines of the online deployments that exist."""
    book = price_book().machines
    machines = []
    for endpoint in cloud.below(f"{cloud.workspace}/onlineEndpoints"):
        for each in cloud.below(f"{endpoint['id']}/deployments"):
            size = each["properties"].get("instanceType", "")
            count = int((each.get("sku") or {}).get("capacity") or 1)
            usd = count * HOURS_A_MONTH * book[size].usd_per_hour if size in book else 0.0
            machines.append(BilledMachine(f"{endpoint['name']}/{each['name']}", size, count, 0.0, usd))
    return machines


def _service(host: str) -> str:
    return "blob storage" if host.endswith(BLOBS) else host
