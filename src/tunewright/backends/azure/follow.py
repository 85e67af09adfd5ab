"""Follows a running job: prints its log, its loss and its cost, and ends it before it costs too much."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import httpx

from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import Unreachable, azure_errors, found
from tunewright.backends.azure.waiting import Wait
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.pipeline.steps import Step

OVER = ("Completed", "Failed", "Canceled")
"""Final states. The SDK stops to follow a run that is NotResponding or Paused, too, but Azure may hear from such a node
again, and its machines cost money meanwhile."""
_PATIENCE_SECONDS = 300.0
"""How long we try to reach Azure again while a job runs there."""
_FASTEST, _SLOWEST = 0.5, 10.0
"""Seconds between two polls; each pause is a third longer than the one before, until something happens."""
_CURVE_SECONDS = 20.0
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
_LOG = "user_logs/std_log"
_BUILD = re.compile(r"image_build_log")
"""Matches the name of the log of an image's build (rule image-build-log)."""
_WORDS = 600
_COMPUTES = "2024-04-01"
_BEFORE = {
    "NotStarted": ("Azure ML to take up the job", 3600.0),
    "Queued": ("a machine: the cluster grows, or others use it", 4 * 3600.0),
    "Provisioning": ("a machine: the cluster grows", 3600.0),
    "Preparing": ("the image, which Azure ML builds once", 3600.0),
    "Starting": ("the machine to fetch image and data", 3600.0),
}
"""What we wait for before a run runs, by its status, and for how many seconds. Other users' jobs may take hours."""
_DURING = {
    "Finalizing": "whose output Azure ML saves",
    "CancelRequested": "which is being cancelled",
    "NotResponding": "whose machine Azure ML does not hear, which it may again",
    "Paused": "which somebody has paused",
}
"""What goes on in a run that has begun, by its status; in any other it runs. None of these is the end of a run."""
_LONGEST_RUN = 7 * 24 * 3600.0
"""Seconds that a step may run if its job names no limit: no step gets more."""
_ENDING_SECONDS = 15 * 60.0
"""How long Azure may take to end a step that has reached its limit, and to save its output."""


class Stopped(UserError):
    """A step ended without an output, or has to end: no part of its job may run on."""


class JobFollower:
    """Follows one submitted job to its end.

    Args:
        job: its name.
        rates: USD an hour of each step's machines.
        budget: USD that the whole job may cost.
    """

    def __init__(self, at: Connection, job: str, rates: Mapping[str, float], budget: float):
        self._at, self._job, self._rates, self._budget = at, job, rates, budget
        self._shown: dict[str, int] = {}
        """How many bytes of each run's log were printed."""
        self._curve_at = 0.0
        self._costs: dict[str, float] = {}
        """USD of each step so far."""
        self._limits: dict[str, float] = {}
        """Seconds after which Azure ends each step, as the job says."""
        self._over = False
        self._final: set[str] = set()
        """Steps that cost nothing more."""

    def step(self, step: Step) -> Any:
        """Wait until a step of the job is over, and print what happens. Returns its run: `status`, `name`.

        Raises:
            UserError: Azure can't be reached any more; the job runs on.
            Stopped: the budget is reached, or the step does not begin, or does not end.
        """
        name, wait, silence = step.name, _FASTEST, Wait()
        while True:
            run, whole = self._look_patiently(name)
            if run is not None:
                printed = self._print_log(run)
                if step.trains:
                    self._print_curve(run)
                if printed:
                    wait = _FASTEST
                    silence.reset()
                if run.status in OVER:
                    self._print_log(run)
                    return run
            if whole.status in OVER:
                return run or whole
            self._check_budget()
            self._report_wait(name, run, silence)
            time.sleep(wait)
            wait = min(wait * 4 / 3, _SLOWEST)

    def settle(self, step: str) -> None:
        """Add up what the job has cost so far, without waiting for its end.

        Args:
            step: its step, if it has only one.

        Raises:
            UserError: Azure can't be reached.
        """
        self._look_patiently(step)

    def _report_wait(self, step: str, run: Any, silence: Wait) -> None:
        """Print what a silent step waits for.

        Raises:
            Stopped: it has not begun for too long, or runs on after its limit.
        """
        status = run.status if run is not None else "NotStarted"
        rate = self._rates.get(step, 0.0)
        if status not in _BEFORE:
            limit, costs = self._limits.get(step, _LONGEST_RUN), f"${rate:.2f} an hour, ${self.spent:.2f} so far"
            ends = f"Azure ends it after {limit / 60:.0f} min; " if step in self._limits else ""
            what = f"the step {step}, {_DURING.get(status, 'which runs')}"
            if silence.look(what, limit + _ENDING_SECONDS, ends + costs):
                raise Stopped(
                    f"The step {step} runs on, though its limit of {limit / 60:.0f} minutes has passed.",
                    why=f"It costs {costs}.",
                    fix="See in the studio what holds it up, then type the same command to go on from there.",
                )
            return
        what, longest = _BEFORE[status]
        if silence.look(what, longest, f"${rate:.2f} an hour from when a machine stands"):
            reasons = (self.error(run.name), self._cluster_state(run)) if run is not None else ()
            raise Stopped(
                f"The step {step} did not begin: it waited {longest / 60:.0f} minutes for {what}.",
                why=" ".join(filter(None, reasons)) or None,
                fix="See the cluster in the studio (Compute): capacity, quota or its network holds it up. Name another "
                "machine (azure.gpu, azure.cpu) or try later, then type the same command.",
            )

    def cancel(self) -> None:
        """Cancel the job if it is not over, and say so; if that fails, say what runs on."""
        try:
            with azure_errors(f"cancelling {self._job}"):
                known = found(self._at.ml.jobs.get, self._job)
                if known is None or known.status in OVER:
                    return
                self._at.ml.jobs.begin_cancel(self._job)
        except UserError as error:
            say(f"  azure: {error.what}")
            self.report_running()
        else:
            say(f"  azure: {self._job} is cancelled; its machines go when they have been idle for two minutes")

    def report_running(self, *, is_sure: bool = True) -> None:
        """Say that the job runs on, what it costs, and how to end it.

        Args:
            is_sure: whether the job is known to exist.
        """
        if self._over:
            return
        name, dearest = self._at.name, max(self._rates.values())
        runs = "runs on" if is_sure else "may run, which Azure does not say now"
        say(
            f"  azure: the job {self._job} {runs}, for at most ${dearest:.2f} an hour and ${self._budget:.2f} in all. "
            "The same command follows it again. To end it: "
            f"az ml job cancel --name {self._job} --resource-group {name.resource_group} "
            f"--workspace-name {name.workspace} --subscription {name.subscription}"
        )

    @property
    def spent(self) -> float:
        """USD so far, by the duration of the runs and the price book."""
        return sum(self._costs.values())

    def seconds(self, run: str) -> float | None:
        """How long a run has taken so far; None if Azure does not say."""
        details = self._details(run)
        if details is None:
            return None
        if not details.start_time_utc:
            return 0.0
        taken = (details.end_time_utc or self._at.now) - details.start_time_utc
        return max(float(taken.total_seconds()), 0.0)

    def error(self, run: str) -> str | None:
        """Azure's message about a run that failed."""
        details = self._details(run)
        error = getattr(getattr(details, "error", None), "error", None)
        return f"{without_secrets(str(error.message)).strip().rstrip('.')}." if error and error.message else None

    def build_log(self, run: str) -> str | None:
        """The end of the log of the image's build, if a run failed before it had a log of its own."""
        logs = getattr(self._details(run), "log_files", None) or {}
        builds = [url for name, url in logs.items() if _BUILD.search(name)]
        if not builds or any(name.startswith(_LOG) for name in logs):
            return None
        text = without_secrets(" ".join(_tail(builds[-1], 0).decode("utf-8", "replace").split()))
        return f"The log of its image's build ends: {text[-_WORDS:]}" if text else None

    def _cluster_state(self, run: Any) -> str | None:
        """The state of a run's cluster and its machines, in words; None if Azure does not say."""
        name = str(run.compute or "").rpartition("/")[2]
        try:
            with azure_errors(f"the cluster {name}"):
                cluster = self._at.ask("GET", f"{self._at.name.path}/computes/{name}", _COMPUTES)["properties"]
        except UserError:
            return None
        own = cluster.get("properties") or {}
        faults = "; ".join(str((each.get("error") or each).get("message")) for each in own.get("errors") or [])
        state = own.get("allocationState") or cluster.get("provisioningState")
        text = f"The cluster {name} is {str(state).lower()}; machines now: {own.get('currentNodeCount') or 0}."
        return f"{text} It says: {without_secrets(faults)}." if faults else text

    def _look_patiently(self, name: str) -> tuple[Any, Any]:
        """As `_look`. If Azure can't be reached, try again for some minutes, while the job runs on."""
        away: Wait | None = None
        while True:
            try:
                return self._look(name)
            except Unreachable as error:
                if away is None:
                    away = Wait()
                    say(f"  azure: {error.what} Still trying; the job runs on.")
                costs = f"the job costs up to ${max(self._rates.values()):.2f} an hour meanwhile"
                if away.look("Azure to be reached again", _PATIENCE_SECONDS, costs):
                    raise
                time.sleep(_SLOWEST)

    def _look(self, name: str) -> tuple[Any, Any]:
        """(the run of a step, or None before it exists; the job)."""
        with azure_errors(f"the job {self._job}"):
            whole = self._at.ml.jobs.get(self._job)
            self._over = whole.status in OVER
            self._limits |= _limits(name, whole)
            if whole.type != "pipeline":
                self._add_cost(name, whole)
                return whole, whole
            listed = self._at.ml.jobs.list(parent_job_name=self._job)
            children = {each.display_name: each for each in listed if each is not None}  # None: the SDK can't read it
        for each, run in children.items():
            self._add_cost(each, run)
        return children.get(name), whole

    def _add_cost(self, step: str, run: Any) -> None:
        """Update the cost of a step by its run."""
        if step in self._final:
            return
        seconds = self.seconds(run.name)
        if seconds is None:  # what is known of it stands until Azure says more
            return
        self._costs[step] = seconds / 3600 * self._rates.get(step, 0.0)
        if run.status in OVER:
            self._final.add(step)

    def _details(self, run: str) -> Any:
        """A run's details in the run history; None if it does not have them yet, or can't be reached."""
        try:
            with azure_errors(f"the run {run}"):
                # The SDK's only public call for a log that is still being written prints it by itself.
                return self._at.ml.jobs._runs_operations.get_run_details(run)
        except UserError:
            return None

    def _check_budget(self) -> None:
        if self.spent > self._budget:
            raise Stopped(
                f"The budget of ${self._budget:.2f} is reached: the job {self._job} was stopped.",
                where="azure.budget_usd",
                fix="Raise it and type the same command again: finished steps are kept, and a training goes on.",
            )

    def _print_log(self, run: Any) -> bool:
        """Print the new lines of a run's log. Returns whether there were any."""
        details = self._details(run.name)
        known = (details and details.log_files) or {}
        logs = {name: url for name, url in known.items() if name.startswith(_LOG)}
        if not logs:
            return False
        shown = self._shown.get(run.name, 0)
        text = _tail(logs[min(logs)], shown)
        lines, _, rest = text.rpartition(b"\n")
        if run.status in OVER:
            lines, rest = text, b""
        for line in lines.decode("utf-8", "replace").splitlines():
            say(f"  {without_secrets(line)}" if line else "")
        self._shown[run.name] = shown + len(text) - len(rest)
        return bool(lines)

    def _print_curve(self, run: Any) -> None:
        if run.status in OVER or time.monotonic() - self._curve_at < _CURVE_SECONDS:
            return
        self._curve_at = time.monotonic()
        losses = self._metric(run.name, "loss")
        if len(losses) > 1:
            say(f"  loss {sparkline(losses)} {losses[-1]:.3f}")

    def _metric(self, run: str, name: str) -> list[float]:
        """The values of a metric so far; none if MLflow fails, which must not end anything."""
        try:
            client = self._tracking()
            return [each.value for each in sorted(client.get_metric_history(run, name), key=lambda each: each.step)]
        except Exception:  # noqa: BLE001 (whatever a tracking server or its plugin raises)
            return []

    def _tracking(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self._at.workspace.mlflow_tracking_uri)


def _limits(step: str, job: Any) -> dict[str, float]:
    """Seconds after which Azure ends each step of a job, for the steps that have a limit.

    Args:
        step: the step of the job, if it has only one.
    """
    runs = (job.jobs or {}) if job.type == "pipeline" else {step: job}
    timeouts = {name: getattr(getattr(run, "limits", None), "timeout", None) for name, run in runs.items()}
    return {name: float(seconds) for name, seconds in timeouts.items() if isinstance(seconds, int | float)}


def sparkline(values: list[float]) -> str:
    """A curve in one line: a bar for the mean of each of at most 40 stretches."""
    stretches = min(_WIDTH, len(values))
    cuts = [round(place * len(values) / stretches) for place in range(stretches + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _tail(url: str, start: int) -> bytes:
    """A log from byte `start` on; empty if it can't be read just now."""
    try:
        reply = httpx.get(url, headers={"Range": f"bytes={start}-"}, timeout=30)
    except httpx.HTTPError:
        return b""
    if reply.status_code == httpx.codes.PARTIAL_CONTENT:
        return reply.content
    return reply.content[start:] if reply.status_code == httpx.codes.OK else b""
