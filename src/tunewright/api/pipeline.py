"""Run the whole life cycle, or the outdated steps up to one step."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunewright.backends.local import LocalBackend
from tunewright.config import Spec
from tunewright.core.errors import GateFailed
from tunewright.core.progress import say
from tunewright.models.naming import absolute, require_known
from tunewright.models.resolve import locate
from tunewright.pipeline.fingerprint import read_once
from tunewright.pipeline.runner import Backend, PipelineResult, due, path_to, run_pipeline, standing
from tunewright.pipeline.steps import Step, steps_to
from tunewright.project import Project
from tunewright.training.capabilities import require_able, unused

if TYPE_CHECKING:
    from tunewright.backends.azure.spending import RunSpending
    from tunewright.ladder.search import Ladder

On = Literal["local", "azure"]
"""The backend that runs the steps: this machine, or jobs in the spec's workspace."""


@dataclass(frozen=True)
class Report:
    """The result of a run: the verdict, the compared candidates and the report's files."""

    pipeline: PipelineResult
    ladder: Ladder | None = None
    """How the run chose this candidate, if the spec names several."""
    candidates: Path | None = None
    """The page that shows all candidates, if the spec names several."""

    @cached_property
    def data(self) -> dict[str, Any]:
        """The content of the report as plain JSON values: verdict, comparison, parity."""
        text = (self.pipeline.folder("verdict") / "verdict.json").read_text("utf-8")
        return dict(json.loads(text))

    @property
    def decision(self) -> str:
        """switch, cascade, keep-api, cheaper-api or classical."""
        return str(self.data["verdict"]["decision"])

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return str(self.data["verdict"]["sentence"])

    @property
    def html(self) -> Path:
        """The report's file."""
        return self.pipeline.folder("verdict") / "report.html"

    @property
    def folders(self) -> Mapping[str, Path]:
        """The output folder of each step."""
        return {name: outcome.folder for name, outcome in self.pipeline.steps.items()}

    @property
    def split(self) -> Path:
        """The folder of the dataset."""
        return self.pipeline.folder("split")

    @property
    def bundle(self) -> Path:
        """The folder for `tunewright serve`."""
        return self.pipeline.folder("bundle")

    @property
    def gate_failures(self) -> list[str]:
        """The parity gates that the served bundle fails, as sentences."""
        return list(self.data["parity"]["failures"])

    def require_gates(self) -> None:
        """Check the parity gates.

        Raises:
            GateFailed: the served bundle fails a parity gate of the spec.
        """
        if self.gate_failures:
            raise GateFailed("; ".join(self.gate_failures))


def run(
    spec: Spec,
    *,
    runs: Path | None = None,
    from_step: str | None = None,
    force: bool = False,
    on: On = "local",
    every: bool = False,
) -> Report:
    """Run the whole life cycle, from raw data to the verdict and its bundle. Steps that are up to date are reused.

    If the spec names several candidates, they run one after the other until one does the job.

    Args:
        runs: the folder for outputs; by default `runs` beside the spec.
        from_step: run this step and all later ones, even if they are up to date.
        force: run every step.
        on: the backend that runs the steps. The outputs are on this machine afterwards, whatever the backend.
        every: try all candidates, even after one that does the job.

    Raises:
        UserError: the user must change something in the spec, the data, the machine or the workspace.
    """

    # Candidates differ in their models alone, so all have the steps of the spec.
    path_to(spec, "bundle", from_step)
    ran: set[str] = set()
    spending: RunSpending | None = None
    if on == "azure":
        from tunewright.backends.azure.spending import RunSpending

        spending = RunSpending(spec, "bundle")  # one budget for all candidates

    def run_candidate(candidate: Spec) -> Report:
        # The search runs its choice again to make it the latest, which must not train it again.
        again = candidate.model in ran
        ran.add(candidate.model)
        first = None if again else from_step
        report = Report(bring_up_to_date(candidate, "bundle", runs, first, force and not again, on, spending))
        if on == "azure":
            from tunewright.backends.azure.connection import connect
            from tunewright.backends.azure.registry import register

            register(candidate, connect(candidate), report.folders, report.data)
        return report

    if not spec.candidates:
        return run_candidate(spec)
    from tunewright.ladder.cascades import make
    from tunewright.ladder.page import write_page
    from tunewright.ladder.search import Steps, climb

    for model in spec.candidates:
        locate(model, spec.folder)  # report a model that can't be loaded before the first one is trained
    home, sources = Project(spec.folder, runs).runs.resolve(), read_once()

    def is_ready(candidate: Spec) -> bool:
        rerun = force or from_step is not None
        return not rerun and not standing(candidate, "bundle", home, sources=sources).outdated

    steps = Steps(run_candidate, lambda cascade: Report(make(cascade, home)), is_ready, rented=on == "azure")
    report, ladder = climb(spec, steps, every=every)
    return replace(report, ladder=ladder, candidates=write_page(spec, ladder, home))


def bring_up_to_date(
    spec: Spec,
    step: str,
    runs: Path | None = None,
    from_step: str | None = None,
    force: bool = False,
    on: On = "local",
    spending: RunSpending | None = None,
) -> PipelineResult:
    """Run the outdated steps up to one step; the arguments are those of `run`.

    Args:
        spending: what a run in Azure has cost so far, if this is a part of it; by default this is a run of its own.
    """
    if any(each.needs_gpu for each in steps_to(spec, step)):
        require_known(spec.model, spec.folder)  # report a wrong name before the data are read
        require_able(spec)
        if idle := unused(spec):
            say(f"note: {idle}")
    if any("api" in each.sections for each in steps_to(spec, step)):
        from tunewright.economics import price_book
        from tunewright.economics.candidates import check_prices
        from tunewright.economics.lifetimes import today

        check_prices(spec, price_book(spec.price_file), today())  # report what has no price before training
    rerun = force or from_step is not None
    with tempfile.TemporaryDirectory() as scratch:

        def check_room(first: Step, done: Mapping[str, Path], target: Path) -> None:
            from tunewright.pipeline.planning.preflight import require_room

            later = steps_to(spec, step) if rerun else due(spec, first, step, done, target.parent)
            remaining = [first, *(each for each in later if each.name not in {first.name, *done})]
            require_room(spec, remaining, target.parent)

        # Steps run in their own processes and read the spec, with its overrides, from this file.
        file = spec.save(Path(scratch), absolute(spec.model, spec.folder))
        local = LocalBackend(spec, file, check_room if on == "local" else None)

        def run_on(backend: Backend) -> PipelineResult:
            folder = Project(spec.folder, runs).runs
            return run_pipeline(spec, backend, runs=folder.resolve(), to=step, from_step=from_step, force=force)

        if on == "local":
            return run_on(local)
        from tunewright.api.azure import preflight
        from tunewright.backends.azure.backend import AzureBackend
        from tunewright.backends.azure.connection import connect
        from tunewright.deploy.preflight import require

        with AzureBackend(
            spec,
            connect(spec),
            local,
            to=step,
            force=rerun,
            ready=lambda: require(preflight(spec, to=step)),
            spending=spending,
        ) as backend:
            return run_on(backend)
