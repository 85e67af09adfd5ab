"""Retraining by the calendar: the whole pipeline as an Azure ML schedule. Each run reads the data that lie in the
storage by then."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunewright.backends.azure import assets, machines
from tunewright.backends.azure.backend import TAG, spec_text, stays_here
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.jobs import JobWork, job_of
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.sources import BaseModelSource, Source, needed, taken_along
from tunewright.backends.azure.store import DATASTORE, FOLDER, BlobStore
from tunewright.backends.azure.waiting import wait_for
from tunewright.config import Spec
from tunewright.core.errors import UserError, first_of
from tunewright.core.progress import say
from tunewright.pipeline.steps import STEPS, WATCHING_STEPS, Step
from tunewright.project import NoBundle, Project

LONGEST = 900.0
"""Seconds that Azure may take to make, change or delete a schedule."""


@dataclass(frozen=True)
class Recurrence:
    """How often a schedule runs its job: each `interval` of `frequency`, on these days."""

    frequency: str
    interval: int
    days: dict[str, list[Any]]
    when: str


EVERY = {
    "month": Recurrence("Month", 1, {"month_days": [1]}, "on the first of each month"),
    "quarter": Recurrence("Month", 3, {"month_days": [1]}, "on the first of each quarter"),
    "week": Recurrence("Week", 1, {"week_days": ["Monday"]}, "each Monday"),
}
"""Recurrences, not cron expressions: Azure ML reads the days and months of a cron expression as *, which runs the job
every day (learn.microsoft.com/azure/machine-learning/how-to-schedule-pipeline-job, limitations, read 2026-11-28)."""


_SENT = "sent.txt"
"""The file beside the data that lists the files which schedules of this project have put there."""
_NAMED = 5
"""How many files a line names at most."""


@dataclass(frozen=True)
class Scheduled:
    name: str
    every: str
    when: str
    """In words, such as "each Monday at 03:00 UTC"."""
    folder: str
    """Where each run reads the data: the next training uses what is put there."""
    steps: list[str]


def schedule(spec: Spec, at: Connection, every: str, hour: int) -> Scheduled:
    """Run the pipeline by the calendar. This replaces the project's schedule, if it has one. If servers have captured
    their answers, the first step compares those with the data on which the serving model was judged.

    Data and captures go into a folder of the workspace's storage, in place of those that the last call put there. Each
    run reads the files that lie there under the same names by then. Steps that ask an API with a key are left out, and
    the verdict does without them.

    Args:
        every: one of `EVERY`.
        hour: of the day, UTC.

    Raises:
        UserError: there is no identity for the jobs to run as, or Azure refuses.
    """
    from azure.ai.ml.entities import JobSchedule, RecurrencePattern, RecurrenceTrigger

    _require_identity(spec)
    served = _served(spec)
    if left := [step.name for step in STEPS.values() if step.is_in(spec) and stays_here(step, spec)]:
        say(f"  azure: without {' and '.join(left)}, because their APIs' keys stay on this machine")
    steps = [*([WATCHING_STEPS["drift"]] if served else []), *steps_there(spec)]
    folder, tags = f"{FOLDER}/{spec.name}/current", {TAG: spec.name}
    name = f"tw-{spec.name}-retrain"
    job = job_of(_work(spec, at, name, steps, folder, tags, served), spec)
    recurrence = EVERY[every]
    when = f"{recurrence.when} at {hour:02}:00 UTC"
    with azure_errors(f"the schedule {name}"):
        trigger = RecurrenceTrigger(
            frequency=recurrence.frequency,
            interval=recurrence.interval,
            start_time=start_of(datetime.now(UTC), hour),
            schedule=RecurrencePattern(hours=hour, minutes=0, **recurrence.days),
        )
        entity = JobSchedule(name=name, trigger=trigger, create_job=job, tags=tags)
        wait_for(at.ml.schedules.begin_create_or_update(entity), f"the schedule {name}", LONGEST)
    say(f"  azure: schedule {name}: {when}")
    return Scheduled(name, every, when, f"{DATASTORE}{folder}", [step.name for step in steps])


def steps_there(spec: Spec) -> list[Step]:
    """The steps of the pipeline that nodes can run: without those that ask an API with a key, and without those that
    can't do without them."""
    there: dict[str, Step] = {}
    for step in STEPS.values():
        if step.is_in(spec) and not stays_here(step, spec) and there.keys() >= set(step.inputs_of(spec, step.optional)):
            there[step.name] = step
    return list(there.values())


def steps_not_there(spec: Spec) -> list[str]:
    """The steps of the pipeline that `steps_there` leaves out, by name."""
    there = {step.name for step in steps_there(spec)}
    return [step.name for step in STEPS.values() if step.is_in(spec) and step.name not in there]


def start_of(now: datetime, hour: int) -> str:
    """The time from which a schedule counts its months and weeks: the first day of this quarter, in UTC as Azure ML
    writes it.

    If it lies in the past, the first job runs at the next time that follows from it, not at once (how-to-schedule-\
pipeline-job, as above).
    """
    first = now.replace(month=(now.month - 1) // 3 * 3 + 1, day=1, hour=hour, minute=0)
    return f"{first:%Y-%m-%dT%H:%M}:00"


def _require_identity(spec: Spec) -> None:
    """Refuse a schedule whose jobs would run as a user.

    They would read and write the storage with the token of the user who submits them, and the calendar has none
    (learn.microsoft.com/azure/machine-learning/how-to-identity-based-service-authentication, "Access data for training
    jobs on compute clusters using user identity", read 2026-11-28).

    Raises:
        UserError: the jobs would run as a user.
    """
    if machines.identity_of(spec) is None:
        raise UserError(
            "A scheduled job starts when nobody is signed in, and this one would run as you.",
            where="azure.identity",
            why="It could neither read its data nor write its outputs. No schedule was made.",
            fix="Give it a user-assigned identity: azd up makes one (AZURE_ML_IDENTITY); or name one with the roles "
            "Storage Blob Data Contributor on the workspace's storage account and AzureML Data Scientist on the "
            "workspace: azure.identity=/subscriptions/…/userAssignedIdentities/NAME",
        )


def _served(spec: Spec) -> Path | None:
    """The bundle that serves; None if nothing was captured, or the bundle has no reference to compare captures with."""
    from tunewright.drift.reference import load_reference

    if "monitor.captures" not in spec.sources:
        return None
    try:
        folder = Project(spec.folder).champion()
    except NoBundle:
        return None
    return folder.resolve() if load_reference(folder) else None


def _work(
    spec: Spec, at: Connection, name: str, steps: list[Step], folder: str, tags: dict[str, str], served: Path | None
) -> JobWork:
    sources, addresses = taken_along(spec, steps), {}
    for key, source in sources.items():
        if isinstance(source, BaseModelSource):
            version = source.sha256[: assets.DIGITS]
            with tempfile.TemporaryDirectory() as scratch:
                laid_out = source.laid_out(Path(scratch) / source.name)
                addresses[key] = assets.data_asset(at, source.asset(spec.name), version, laid_out, tags)
        else:
            addresses[key] = f"{DATASTORE}{folder}/{source.name}"
    _replace(BlobStore(at), folder, [each for each in sources.values() if not isinstance(each, BaseModelSource)])
    return JobWork(
        name="",
        title=name,
        steps=steps,
        given={"bundle": assets.output_asset(at, spec, "bundle", served, tags)} if served else {},
        sources={step.name: [(sources[key], addresses[key]) for key in needed(step, sources)] for step in steps},
        clusters={step.name: machines.cluster(at, step, spec, tags) for step in steps},
        limits=machines.limits(steps, spec, spec.azure.budget_usd),
        code=assets.code_asset(at, f"{TAG}-{spec.name}-code", spec_text(spec), tags),
        environment=assets.environment(at, spec, tags),
        tags=tags,
        kept={step.name: f"{FOLDER}/kept/{spec.name}-{step.name}-scheduled" for step in steps if step.resumes},
        without=steps_not_there(spec),
    )


def _replace(store: BlobStore, folder: str, sources: Sequence[Source]) -> None:
    """Put sources into a folder of the storage, in place of those that an earlier call put there: rows and captures
    that were deleted here must not be trained on. What others put there stays, and so does what versions without the
    list did; a line names it."""
    listed, sent = f"{folder}/{_SENT}", {f"{source.name}/{name}" for source in sources for name in source.files}
    before = set(filter(None, (store.text(listed) or "").split("\n")))
    # All names first, so that the next call removes them even if this one is cut off.
    store.write(listed, "\n".join(sorted(before | sent)))
    for source in sources:
        say(f"  azure: {source.key} goes to {folder}/{source.name}")
        with tempfile.TemporaryDirectory() as scratch:
            laid_out = source.laid_out(Path(scratch) / source.name)
            store.upload(laid_out, f"{folder}/{source.name}", anew=True)
    for name in sorted(before - sent):
        store.remove(f"{folder}/{name}")
    store.write(listed, "\n".join(sorted(sent)))
    if before - sent:
        gone = first_of(sorted(before - sent), _NAMED)
        say(f"  azure: removed {gone} from {folder}, because this project no longer has them")
    if others := set(store.names(folder)) - sent - {_SENT}:
        say(
            f"  azure: {folder} also has {first_of(sorted(others), _NAMED)}, which an earlier version of this command "
            "or somebody else put there; jobs may read that, too, so delete what you no longer want"
        )


def scheduled(at: Connection, spec: Spec) -> list[Any]:
    """The schedules of a project.

    Raises:
        UserError: Azure refuses.
    """
    with azure_errors("the schedules"):
        return [each for each in at.ml.schedules.list() if (each.tags or {}).get(TAG) == spec.name]
