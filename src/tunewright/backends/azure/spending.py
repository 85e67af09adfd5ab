"""What a run costs in Azure: one budget holds for all of its jobs, whichever command began them."""

from __future__ import annotations

from functools import cached_property

from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.follow import JobFollower
from tunewright.backends.azure.refusals import azure_errors
from tunewright.config import Spec, spec_sha256
from tunewright.core.artifacts import sha256_json
from tunewright.core.progress import say
from tunewright.pipeline.fingerprint import source_hashes
from tunewright.pipeline.steps import steps_to

_TAG = "tunewright.run."
"""The start of the name of a tag that all jobs of a run have. Azure can list the jobs with a tag by its name alone."""


class RunSpending:
    """The jobs of one run, with their cost: those of this command, and those of earlier ones.

    Args:
        spec: as the user wrote it. Its candidates share the budget.
        to: the last step of the run.
    """

    def __init__(self, spec: Spec, to: str):
        self._spec, self._to = spec, to
        self._followers: dict[str, JobFollower] = {}
        self._repeated: dict[str, JobFollower] = {}
        """Completed jobs of earlier commands, whose work a forced run pays again."""

    @property
    def usd(self) -> float:
        """USD of all the jobs so far."""
        return sum(each.spent for each in self._followers.values())

    @property
    def _repeated_usd(self) -> float:
        return sum(each.spent for each in self._repeated.values())

    def add(self, job: str, follower: JobFollower) -> None:
        """Count a job that this command follows."""
        self._followers[job] = follower

    def tag(self, rates: dict[str, float]) -> dict[str, str]:
        """The tag of a job of this run, whose value has what is needed to know the job's cost later.

        Args:
            rates: USD an hour of each step's machines.
        """
        return {self._tag: " ".join(f"{step}={rate:g}" for step, rate in rates.items())}

    def count_earlier(self, at: Connection, but: str, *, force: bool) -> None:
        """Count the jobs of earlier commands that belong to this run, and say what they cost.

        A forced run is a new one, with the whole budget: else each repetition would need a larger one. Earlier tries
        that did not complete count all the same, so that a script which types the command again can't spend more.

        Args:
            but: the job that will be followed next, which must not count twice.
            force: whether the run repeats what was done before, so that a completed job is no part of it.

        Raises:
            UserError: Azure can't be reached.
        """
        with azure_errors("the jobs of this run"):
            listed = [each for each in at.ml.jobs.list(tag=self._tag) if each is not None]
        self._followers.pop(but, None)
        usd, repeated_usd = self.usd, self._repeated_usd
        for job in listed:
            if job.name not in (but, *self._followers, *self._repeated):
                belonging = self._repeated if force and job.status == "Completed" else self._followers
                belonging[job.name] = _finished(at, job.name, job.tags[self._tag])
        if (earlier := self.usd - usd) > 0:
            say(f"  azure: earlier jobs of this run cost ${earlier:.2f}, which its budget counts")
        if (repeated := self._repeated_usd - repeated_usd) > 0:
            say(f"  azure: this run repeats jobs that cost ${repeated:.2f}, which its budget does not count")

    @cached_property
    def _tag(self) -> str:
        """The name of the tag. The machines and the budget are no part of it, so that the same run can go on with a
        larger budget."""
        sources = source_hashes(self._spec, steps_to(self._spec, self._to)[0])
        identity = [spec_sha256(self._spec), self._spec.model, self._spec.candidates, self._to, dict(sources)]
        return f"{_TAG}{sha256_json(identity)[:12]}"


def _finished(at: Connection, job: str, rates: str) -> JobFollower:
    """The follower of an earlier job, which knows the job's cost.

    Args:
        rates: the value of the job's tag.
    """
    by_step = {step: float(rate) for step, _, rate in (each.partition("=") for each in rates.split())}
    follower = JobFollower(at, job, by_step, 0.0)
    follower.settle(next(iter(by_step)))
    return follower
