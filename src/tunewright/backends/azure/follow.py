"""A job that runs, told as it goes: its log, its loss, its cost; and ended where it would cost too much."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import httpx

from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.connection import Connection, Unreachable, azure_errors, found
from tunewright.backends.azure.waiting import Wait
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.pipeline.steps import Step

OVER = ("Completed", "Failed", "Canceled")
"""Of a node that does not respond Azure may hear again, so it is not among them."""
_PATIENCE_SECONDS = 300.0
"""For Azure to be reached again while a job runs there."""
_FASTEST, _SLOWEST = 0.5, 10.0
"""Seconds between two looks; each is a third longer than the one before, until something happens."""
_CURVE_SECONDS = 20.0
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
_LOG = "user_logs/std_log"
_BUILD = re.compile(r"image_build_log")
"""In the name of the log of an image's build: the rule image-build-log."""
_WORDS = 600
_COMPUTES = "2024-04-01"
_BEFORE = {
    "NotStarted": ("Azure ML to take up the job", 3600.0),
    "Queued": ("a machine: the cluster grows, or others use it", 4 * 3600.0),
    "Provisioning": ("a machine: the cluster grows", 3600.0),
    "Preparing": ("the image, which Azure ML builds once", 3600.0),
    "Starting": ("the machine to fetch image and data", 3600.0),
}
"""What is waited for before a run runs, by its status, and for how many seconds. Others' jobs may take hours."""
_LONGEST_RUN = 7 * 24 * 3600.0
"""Seconds that a step may run whose job does not say: no step is given more."""
_ENDING_SECONDS = 15 * 60.0
"""For Azure to end a step that has reached its limit, and to save what it made."""


class Stopped(UserError):
    """A step ended without an output, or has to end: nothing of its job is to run on."""


class JobFollower:
    """Follows one submitted job to its end.

    Args:
        job: its name.
        rates: USD an hour of each step's machines.
        budget: USD that all of it may cost.
    """

    def __init__(self, at: Connection, job: str, rates: Mapping[str, float], budget: float):
        self._at, self._job, self._rates, self._budget = at, job, rates, budget
        self._shown: dict[str, int] = {}
        """Bytes of each run's log that were printed."""
        self._curve_at = 0.0
        self._ledger: dict[str, float] = {}
        self._limits: dict[str, float] = {}
        """Seconds after which Azure ends each step, by the job itself."""
        self._over = False
        self._final: set[str] = set()
        """Steps that cost nothing more."""

    def step(self, step: Step) -> Any:
        """Wait until a step of the job is over, telling what happens. Returns its run: `status`, `name`.

        Raises:
            UserError: Azure can't be asked any more; the job runs on.
            Stopped: the budget is reached, or the step does not begin, or not end.
        """
        name, wait, silence = step.name, _FASTEST, Wait()
        while True:
            run, whole = self._look_patiently(name)
            if run is not None:
                spoke = self._print_log(run)
                if step.trains:
                    self._print_curve(run)
                if spoke:
                    wait = _FASTEST
                    silence.heard()
                if run.status in OVER:
                    self._print_log(run)
                    return run
            if whole.status in OVER:
                return run or whole
            self._hold_budget()
            self._tell(name, run, silence)
            time.sleep(wait)
            wait = min(wait * 4 / 3, _SLOWEST)

    def _tell(self, step: str, run: Any, silence: Wait) -> None:
        """Say what a step that says nothing waits for.

        Raises:
            Stopped: it has not begun for longer than anybody waits, or runs on after its limit.
        """
        status = run.status if run is not None else "NotStarted"
        rate = self._rates.get(step, 0.0)
        if status not in _BEFORE:
            limit, costs = self._limits.get(step, _LONGEST_RUN), f"${rate:.2f} an hour, ${self.spent:.2f} so far"
            ends = f"Azure ends it after {limit / 60:.0f} min; " if step in self._limits else ""
            if silence.look(f"the step {step}, which runs", limit + _ENDING_SECONDS, ends + costs):
                raise Stopped(
                    f"The step {step} runs on, though its limit of {limit / 60:.0f} minutes has passed.",
                    why=f"It costs {costs}.",
                    fix="See in the studio what holds it up, then type the same command to go on from there.",
                )
            return
        what, longest = _BEFORE[status]
        if silence.look(what, longest, f"${rate:.2f} an hour from when a machine stands"):
            said = (self.error(run.name), self._machines(run)) if run is not None else ()
            raise Stopped(
                f"The step {step} did not begin: {longest / 60:.0f} minutes were waited for {what}.",
                why=" ".join(filter(None, said)) or None,
                fix="See the cluster in the studio (Compute): capacity, quota or its network holds it up. Name another "
                "machine (azure.gpu, azure.cpu) or try later; type the same command.",
            )

    def cancel(self) -> None:
        """End the job where it is not over, and say so; where that can't be done, say what runs on."""
        try:
            with azure_errors(f"cancelling {self._job}"):
                known = found(self._at.ml.jobs.get, self._job)
                if known is None or known.status in OVER:
                    return
                self._at.ml.jobs.begin_cancel(self._job)
        except UserError as error:
            say(f"  azure: {error.what}")
            self.tell_of_running()
        else:
            say(f"  azure: {self._job} is cancelled; its machines go when they have been idle for two minutes")

    def tell_of_running(self, *, is_sure: bool = True) -> None:
        """Say where the job runs on, what it costs, and what to type.

        Args:
            is_sure: whether it is known to be there.
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
        """USD so far, by the time that runs took and the price book."""
        return sum(self._ledger.values())

    def seconds(self, run: str) -> float:
        """How long a run has taken."""
        details = self._details(run)
        if not details or not details.start_time_utc:
            return 0.0
        taken = (details.end_time_utc or self._at.now) - details.start_time_utc
        return max(float(taken.total_seconds()), 0.0)

    def error(self, run: str) -> str | None:
        """What Azure says of a run that failed."""
        details = self._details(run)
        found = getattr(getattr(details, "error", None), "error", None)
        return f"{without_secrets(str(found.message)).strip().rstrip('.')}." if found and found.message else None

    def last_words(self, run: str) -> str | None:
        """How the log of the image's build ends, where a run failed before it had a log of its own."""
        logs = getattr(self._details(run), "log_files", None) or {}
        built = [url for name, url in logs.items() if _BUILD.search(name)]
        if not built or any(name.startswith(_LOG) for name in logs):
            return None
        text = without_secrets(" ".join(_tail(built[-1], 0).decode("utf-8", "replace").split()))
        return f"The log of its image's build ends: {text[-_WORDS:]}" if text else None

    def _machines(self, run: Any) -> str | None:
        """What a run's cluster says of its machines; None where that can't be had."""
        name = str(run.compute or "").rpartition("/")[2]
        try:
            with azure_errors(f"the cluster {name}"):
                told = self._at.ask("GET", f"{self._at.name.path}/computes/{name}", _COMPUTES)["properties"]
        except UserError:
            return None
        state, own = told.get("provisioningState"), told.get("properties") or {}
        faults = "; ".join(str((each.get("error") or each).get("message")) for each in own.get("errors") or [])
        state = own.get("allocationState") or state
        said = f"The cluster {name} is {str(state).lower()}; machines now: {own.get('currentNodeCount') or 0}."
        return f"{said} It says: {without_secrets(faults)}." if faults else said

    def _look_patiently(self, name: str) -> tuple[Any, Any]:
        """As `_look`; where Azure can't be reached, again and again for some minutes, while the job runs on."""
        away: Wait | None = None
        while True:
            try:
                return self._look(name)
            except Unreachable as error:
                if away is None:
                    away = Wait()
                    say(f"  azure: {error.what} Trying on; the job runs on.")
                costs = f"the job costs up to ${max(self._rates.values()):.2f} an hour meanwhile"
                if away.look("Azure to be reached again", _PATIENCE_SECONDS, costs):
                    raise
                time.sleep(_SLOWEST)

    def _look(self, name: str) -> tuple[Any, Any]:
        """(the run of a step, None before there is one; the job)."""
        with azure_errors(f"the job {self._job}"):
            whole = self._at.ml.jobs.get(self._job)
            self._over = whole.status in OVER
            self._limits |= _limits(name, whole)
            if whole.type != "pipeline":
                self._note(name, whole)
                return whole, whole
            listed = self._at.ml.jobs.list(parent_job_name=self._job)
            children = {each.display_name: each for each in listed if each is not None}  # None: the SDK can't read it
        for each, run in children.items():
            self._note(each, run)
        return children.get(name), whole

    def _note(self, step: str, run: Any) -> None:
        """Add up what a run costs."""
        if step not in self._final:
            self._ledger[step] = self.seconds(run.name) / 3600 * self._rates.get(step, 0.0)
        if run.status in OVER:
            self._final.add(step)

    def _details(self, run: str) -> Any:
        """What the run history tells of a run; None before it knows of it, and where it can't be asked."""
        try:
            with azure_errors(f"the run {run}"):
                # The SDK has no public call for a log while it is written, but for one that prints by itself.
                return self._at.ml.jobs._runs_operations.get_run_details(run)
        except UserError:
            return None

    def _hold_budget(self) -> None:
        if self.spent > self._budget:
            raise Stopped(
                f"The budget of ${self._budget:.2f} is reached: the job {self._job} was stopped.",
                where="azure.budget_usd",
                fix="Raise it and type the same command again: what is done is kept, and a training goes on.",
            )

    def _print_log(self, run: Any) -> bool:
        """Print what is new in a run's log. Returns whether there was something."""
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
        """The values of a metric so far; none where MLflow can't tell, which must not end anything."""
        try:
            client = self._tracking()
            return [each.value for each in sorted(client.get_metric_history(run, name), key=lambda each: each.step)]
        except Exception:  # noqa: BLE001 (whatever a tracking server or its plugin raises)
            return []

    def _tracking(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self._at.workspace.mlflow_tracking_uri)


def _limits(step: str, job: Any) -> dict[str, float]:
    """Seconds after which Azure ends each step of a job, where it says so.

    Args:
        step: the one that a job of one step does.
    """
    runs = (job.jobs or {}) if job.type == "pipeline" else {step: job}
    told = {name: getattr(getattr(run, "limits", None), "timeout", None) for name, run in runs.items()}
    return {name: float(seconds) for name, seconds in told.items() if isinstance(seconds, int | float)}


def sparkline(values: list[float]) -> str:
    """A curve in one line: the mean of each of at most 40 stretches, as a bar."""
    stretches = min(_WIDTH, len(values))
    cuts = [round(place * len(values) / stretches) for place in range(stretches + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _tail(url: str, start: int) -> bytes:
    """What a log has behind its first `start` bytes; nothing where it can't be read just now."""
    try:
        reply = httpx.get(url, headers={"Range": f"bytes={start}-"}, timeout=30)
    except httpx.HTTPError:
        return b""
    if reply.status_code == httpx.codes.PARTIAL_CONTENT:
        return reply.content
    return reply.content[start:] if reply.status_code == httpx.codes.OK else b""
