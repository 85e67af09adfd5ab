"""Serve a model, retrain it on corrections, and roll back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tunewright.api.pipeline import On, run
from tunewright.api.steps import split
from tunewright.config import Spec
from tunewright.core.progress import say
from tunewright.project import Project, Traffic

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tunewright.monitoring.retraining.run import Course, Retrained
    from tunewright.monitoring.retraining.status import Status
    from tunewright.monitoring.store import Store
    from tunewright.monitoring.store.tables import Capture
    from tunewright.project import ServedBundle


def serve(bundle: Path | str, host: str = "127.0.0.1", port: int = 8080, *, verify: bool = True, pin: str = "") -> None:
    """Serve a bundle until interrupted; see `tunewright.serving.server.serve`.

    Args:
        verify: whether to check the checksums of the bundle's files.
        pin: the digest that the bundle must have, as its export printed it; empty: any.
    """
    from tunewright.inference.checksums import Verification
    from tunewright.serving.server import Limits
    from tunewright.serving.server import serve as serve_bundle

    limits = Limits(verification=Verification(verify, pin))
    serve_bundle(lambda: Traffic(Path(bundle)), host, port, limits=limits)


def retrain(
    spec: Spec, course: Course | None = None, *, on: On = "local", to: str | None = None, identity: Path | None = None
) -> Retrained:
    """Train on the corrections, compare the new model with the champion, try it on traffic, and promote it if it proves
    better; see `tunewright.monitoring.retraining.run.retrain`.

    Args:
        course: how the new model is tried.
        on: the backend that runs the steps.
        to: where in Azure the model is served: aml, aks or aca. Its canary is then a deployment beside the serving one.
            By default servers with access to this file system serve it.
        identity: the sign-in file for clients of a container app.
    """
    from tunewright.monitoring.retraining.in_azure import InAzure
    from tunewright.monitoring.retraining.run import Course, Parts, of_champion
    from tunewright.monitoring.retraining.run import retrain as run_retraining
    from tunewright.monitoring.store import open_store
    from tunewright.monitoring.store.collect import collect

    def add_corrections(store: Store) -> str:
        from tunewright.monitoring.corrections import collect_corrections

        corrections = collect_corrections(spec, store)
        say(f"corrections: {corrections.summary}")
        return corrections.sha256 or ""

    def extend_frozen_test() -> None:
        from tunewright.data.splits.freezing import freeze

        if spec.frozen_folder:
            freeze(spec, split(spec, on=on))

    def appraise_captures(session: Session, captures: Sequence[Capture]) -> None:
        from tunewright.drift.reference import load_reference
        from tunewright.monitoring.queue import appraise

        appraise(session, captures, load_reference(project.champion()))

    project = Project.of(spec)
    spec = of_champion(spec, project.runs, project.latest_bundle)
    with closing(open_store(spec)) as store:
        parts = Parts(
            latest=project.latest_bundle,
            collect=lambda: collect(spec, store),
            collect_corrections=lambda: add_corrections(store),
            freeze=extend_frozen_test,
            run=lambda each: run(each, on=on),
            appraise=appraise_captures,
            served=InAzure(spec, to, identity) if to else None,
        )
        return run_retraining(spec, store, project.runs, parts, course or Course())


def serving_status(spec: Spec) -> Status:
    """Which version serves, since when, and how many corrections wait; see
    `tunewright.monitoring.retraining.status`."""
    from tunewright.monitoring.retraining.status import status
    from tunewright.monitoring.store.collect import collected_store

    with collected_store(spec) as store:
        return status(spec, store, Project(spec.folder).runs)


def roll_back(spec: Spec) -> tuple[str, ServedBundle]:
    """End a canary, or let the previous champion serve again; see `tunewright.monitoring.retraining.status`."""
    from tunewright.monitoring.retraining.status import roll_back as restore_previous
    from tunewright.monitoring.store.collect import collected_store

    with collected_store(spec) as store:
        return restore_previous(spec, store, Project(spec.folder).runs)
