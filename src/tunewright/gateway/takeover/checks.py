"""Whether a job may be answered as somebody wants, before anything is loaded."""

from __future__ import annotations

from tunewright.core.errors import UserError
from tunewright.gateway.config import JobSpec, Mode
from tunewright.gateway.jobs.signature import read_signature
from tunewright.inference.bundle import read_info
from tunewright.project import Project
from tunewright.serving.adapters import AdapterStore


def check_mode(job: JobSpec, mode: Mode) -> None:
    """Raises:
    UserError: the job has no signature, no bundle, or a bundle without the threshold that a cascade needs.
    """
    read_signature(job.project)
    if mode == "observe":
        return
    folders = [model.bundle for model in job.models if model.bundle] if job.models else [job.project]
    for folder in folders:
        if AdapterStore.is_one(folder):
            continue
        bundle = Project(folder).champion() if Project.is_one(folder) else folder
        if read_info(bundle).threshold is None and mode == "cascade":
            raise UserError(
                "This bundle has no threshold, so it can't say when it is sure enough for a cascade.",
                where=bundle,
                fix="Make one that has: tunewright run PROJECT  (or take shadow or own in place of cascade)",
            )
