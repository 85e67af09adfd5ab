"""All jobs of a gateway: recognising their requests, following changes of their modes, and keeping their tallies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.core.progress import say
from tunewright.gateway.config import GatewaySpec
from tunewright.gateway.jobs.signature import Recogniser, read_signature
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.routes import Kind
from tunewright.gateway.takeover.job import OwnedJob
from tunewright.gateway.takeover.models import Hosts, own_models
from tunewright.gateway.takeover.regularly import Regularly
from tunewright.gateway.takeover.store import GatewayStore, Setting
from tunewright.gateway.takeover.tallies import Tallies


class Takeover:
    """The jobs that own models may take over, by one reading of the settings.

    Raises:
        UserError: a project or a bundle can't be used, or the store does not answer.
    """

    def __init__(self, spec: GatewaySpec, store: GatewayStore, hosts: Hosts, metrics: GatewayMetrics):
        self._spec, self._store, self._metrics = spec, store, metrics
        hosts.begin_reading()
        self._tallies = Tallies(self._store)
        signatures = {name: read_signature(job.project) for name, job in spec.jobs.items()}
        self._recogniser = Recogniser(signatures)
        self.jobs = {
            name: OwnedJob(
                name,
                job,
                signatures[name],
                own_models(job, signatures[name], hosts),
                self._tallies,
                metrics,
                self._take_back,
                spec.capture,
            )
            for name, job in spec.jobs.items()
        }
        for name, owned in self.jobs.items():
            owned.recall(*self._store.known(name, owned.version))
        self._seen = -1
        self._taken_back: dict[str, str] = {}
        self._follows = True
        self.looks = Regularly(self._look, "Modes and counts can't be kept at the moment; answers go on.")
        """Write what was counted and taken back, and read what was changed."""

    def read_file(self) -> None:
        """Answer as the file says that was just read, or as was changed since it said something new. Other gateways of
        the store follow, so this comes once, when nothing else is wrong with the settings."""
        self._store.read_file(self._spec.jobs)
        self._follow()

    def end_following(self) -> None:
        """Newer settings answer from now on: only write what was counted and taken back until now. What the last
        requests of these settings show changes no mode, because it may be of other models."""
        self._follows = False

    async def close(self) -> None:
        """End, with the last counts written."""
        await self.looks.close()
        for job in self.jobs.values():
            await job.close()

    def find(self, kind: Kind, request: Mapping[str, Any]) -> tuple[OwnedJob, str] | None:
        """The job of a request and its input; None: it is of none, or unlike the job's other requests."""
        found = self._recogniser.recognise(kind, request)
        if found is None:
            return None
        if found.text is None:
            self._metrics.unlike(found.job)
            return None
        return self.jobs[found.job], found.text

    def _take_back(self, name: str, why: str) -> None:
        job = self.jobs[name]
        before = job.setting
        if not self._follows or name in self._taken_back:
            return
        self._metrics.taken_back(name)
        self._taken_back[name] = f"{why}; it was {before}"
        job.change(Setting("shadow", 1.0, before.audit))
        say(f"{name} was taken back from the own model: {why}. The API answers; the own model is only compared.")

    def _look(self) -> None:
        for name, why in list(self._taken_back.items()):
            self._store.take_back(name, why)
            del self._taken_back[name]
        self._tallies.flush()
        if self._follows and self._store.newest_change() != self._seen:
            self._follow()

    def _follow(self) -> None:
        # Looked up first: a change that comes between the two is then read twice, and not overlooked.
        self._seen = self._store.newest_change()
        settings = self._store.settings(self._spec.jobs)
        for name, setting in settings.items():
            if name not in self._taken_back:
                self.jobs[name].change(setting)
