"""Retraining by the calendar: the whole pipeline as an Azure ML schedule, on whatever data lie there by then."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.pipeline import BESIDE, STEPS, Step
from tunewright.places.azure import assets, machines
from tunewright.places.azure.connection import Connection, azure_errors
from tunewright.places.azure.jobs import Work, job_of
from tunewright.places.azure.place import TAG, spec_text, stays_here
from tunewright.places.azure.sources import needed, sources_of
from tunewright.places.azure.store import DATASTORE, FOLDER, Store
from tunewright.progress import say
from tunewright.serve.serving import served_bundle
from tunewright.spec import RUNS, Spec

EVERY = {"month": "0 {hour} 1 * *", "quarter": "0 {hour} 1 1,4,7,10 *", "week": "0 {hour} * * 1"}
"""Cron expressions, in UTC."""


@dataclass(frozen=True)
class Scheduled:
    name: str
    every: str
    cron: str
    folder: str
    """Where the data are read from each time; what is put there is what is trained on."""
    steps: list[str]


def schedule(spec: Spec, at: Connection, every: str, hour: int) -> Scheduled:
    """Have the pipeline run by the calendar; what was scheduled before for this project is replaced. Where servers have
    captured what they answer, the first step compares that with what the model that serves was judged on.

    Data and captures are put into a folder of the workspace's storage that each run reads anew: what lies there under
    the same names is what the next run reads. Steps that ask an API with a key have no place in it.

    Args:
        every: one of `EVERY`.
        hour: of the day, UTC.

    Raises:
        UserError: Azure refuses.
    """
    from azure.ai.ml.entities import CronTrigger, JobSchedule

    steps = [step for step in STEPS.values() if step.is_in(spec) and not stays_here(step, spec)]
    steps = [step for step in steps if all(name in {each.name for each in steps} for name in step.inputs_of(spec))]
    served = _watched(spec)
    steps = [*([BESIDE["drift"]] if served else []), *steps]
    folder, tags = f"{FOLDER}/{spec.name}/current", {TAG: spec.name}
    name = f"tw-{spec.name}-retrain"
    job = job_of(_work(spec, at, name, steps, folder, tags, served), spec)
    cron = EVERY[every].format(hour=hour)
    with azure_errors(f"the schedule {name}"):
        entity = JobSchedule(
            name=name, trigger=CronTrigger(expression=cron, time_zone="UTC"), create_job=job, tags=tags
        )
        at.ml.schedules.begin_create_or_update(entity).result()
    say(f"  azure: schedule {name}: {cron} UTC")
    return Scheduled(name, every, cron, f"{DATASTORE}{folder}", [step.name for step in steps])


def _watched(spec: Spec) -> Path | None:
    """The bundle that serves; None where nothing was captured, or it has no reference to compare that with."""
    from tunewright.drift.reference import load_reference

    folder = served_bundle(spec.folder / RUNS)
    known = "monitor.captures" in spec.sources and folder.is_dir() and load_reference(folder)
    return folder.resolve() if known else None


def _work(spec: Spec, at: Connection, name: str, steps: list[Step], folder: str, tags: dict[str, str],
          served: Path | None) -> Work:  # fmt: skip
    sources = sources_of(spec)
    with tempfile.TemporaryDirectory() as scratch:
        for key, source in sources.items():
            say(f"  azure: {key} goes to {folder}/{source.name}")
            Store(at).upload(source.laid_out(Path(scratch) / source.name), f"{folder}/{source.name}", anew=True)
    addresses = {key: f"{DATASTORE}{folder}/{source.name}" for key, source in sources.items()}
    return Work(
        name="",
        title=name,
        steps=steps,
        given={"bundle": assets.output_asset(at, spec, "bundle", served, tags)} if served else {},
        sources={step.name: [(sources[key], addresses[key]) for key in needed(step, sources)] for step in steps},
        clusters={step.name: machines.cluster(at, step, spec, tags) for step in steps},
        limits=machines.limits(steps, spec, spec.azure.budget_usd),
        code=assets.code_asset(at, f"{TAG}-{spec.name}-code", spec_text(spec), tags),
        environment=assets.environment(at, tags),
        tags=tags,
        kept={step.name: f"{FOLDER}/kept/{spec.name}-{step.name}-scheduled" for step in steps if step.resumes},
    )


def scheduled(at: Connection, spec: Spec) -> list[Any]:
    """The schedules of a project.

    Raises:
        UserError: Azure refuses.
    """
    with azure_errors("the schedules"):
        return [each for each in at.ml.schedules.list() if (each.tags or {}).get(TAG) == spec.name]
