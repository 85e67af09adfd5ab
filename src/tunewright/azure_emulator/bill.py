"""What an emulator tells at its end: which calls, assets and machines the real thing would cause."""

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
    """The time of one job's machines."""

    step: str
    size: str
    count: int
    seconds: float
    """As long as it took here; machines in Azure take another time."""
    usd: float
    """At the price book's price, for that time."""


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
    """Machines of endpoints that would stand until they are taken away; `usd` is that of a month."""
    refused: list[str]
    """Hosts that were asked for and are not Azure's; nothing went there."""
    violations: list[str]
    """What the official schemas did not allow."""

    @property
    def usd(self) -> float:
        return sum(machine.usd for machine in self.machines)

    @property
    def lines(self) -> list[str]:
        """All of it for people."""
        told = [f"  {count:>5} x {what}" for what, count in self.calls.items()]
        made = [f"  {asset}" for asset in self.assets]
        left = [f"  {m.step}: {m.count} x {m.size}, ${m.usd:,.2f} a month" for m in self.standing]
        ran = [f"  {m.step}: {m.count} x {m.size}, {m.seconds / 60:.1f} min here, ${m.usd:.4f}" for m in self.machines]
        complaints = [f"  {each}" for each in self.violations]
        refused = [f"  {host} ({count} x)" for host, count in Counter(self.refused).items()]
        return [
            "Emulated: nothing was sent to Azure. The real run would make these calls",
            *told,
            f"send {self.uploaded / 1e6:.1f} MB to the storage, make",
            *made,
            f"and rent, for as long as it took here, machines for ${self.usd:.2f}:",
            *ran,
            *(["Until they are taken away these stand, and cost:", *left] if left else []),
            *(["Hosts that were asked for and refused:", *refused] if refused else []),
            *(["The official schemas don't allow:", *complaints] if complaints else []),
        ]


def bill_of(cloud: Cloud, runner: Runner, refused: list[str]) -> Bill:
    """What has happened so far."""
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
    """The machines of the online deployments that are there."""
    book = price_book().machines
    made = []
    for endpoint in cloud.below(f"{cloud.workspace}/onlineEndpoints"):
        for each in cloud.below(f"{endpoint['id']}/deployments"):
            size = each["properties"].get("instanceType", "")
            count = int((each.get("sku") or {}).get("capacity") or 1)
            usd = count * HOURS_A_MONTH * book[size].usd_per_hour if size in book else 0.0
            made.append(BilledMachine(f"{endpoint['name']}/{each['name']}", size, count, 0.0, usd))
    return made


def _service(host: str) -> str:
    return "blob storage" if host.endswith(BLOBS) else host
