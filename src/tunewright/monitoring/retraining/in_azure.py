"""The canary of a model served in Azure: a deployment with a share of the traffic, tested several times."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tunewright.backends.azure.connection import connect
from tunewright.config import Spec
from tunewright.core.errors import GateFailed, UserError
from tunewright.core.progress import say
from tunewright.deploy import DeployTarget, Released, release, target_of
from tunewright.deploy.capacity import require_capacity
from tunewright.deploy.exam import exam_of, failures
from tunewright.deploy.live import State, command
from tunewright.deploy.outputs import STEPS, Outputs
from tunewright.deploy.preflight import endpoint_checks, require
from tunewright.deploy.trial import Exam, NoAnswer
from tunewright.monitoring.retraining.canary import CANARY_ENDED, LOOKS, CanaryEnded, CanaryTerms
from tunewright.monitoring.retraining.contest import made_of


@dataclass(frozen=True)
class Looks:
    """The result of a canary in Azure."""

    count: int
    """How often it was tested."""
    sentence: str
    against: list[str]
    """The reasons against it."""


class InAzure:
    """The deployments of a project's model in Azure.

    Args:
        to: aml, aks or aca.
        identity: the sign-in file for clients of a container app.
    """

    def __init__(self, spec: Spec, to: str, identity: Path | None):
        self._spec, self.to, self._identity = spec, to, identity
        self._at = connect(spec)

    def begin(self, bundle: Path, terms: CanaryTerms | None) -> Released:
        """Register a bundle, deploy it beside the serving version, test it, and give it its share of the traffic.

        Args:
            terms: the canary's settings; None: the bundle gets all traffic at once.

        Raises:
            GateFailed: the deployment fails a gate; it was deleted.
            UserError: Azure refuses or has no capacity; nothing was left behind.
        """
        outputs = self._outputs(bundle)
        if self.to == "aml":
            require(endpoint_checks(self._spec, self._at, outputs))
        target, exam = self._target(outputs)
        percent = min(99, max(1, round(100 * terms.share))) if terms else None
        try:
            return release(self._spec, target, exam, percent)
        except GateFailed:
            # `release` only tests a deployment that an earlier, interrupted call has created.
            _withdraw(target)
            raise

    def watch(self, bundle: Path, since: datetime, terms: CanaryTerms) -> Looks:
        """Test a canary while it has traffic, until its time is over or a test fails.

        Args:
            since: the start of the canary.

        Raises:
            CanaryEnded: somebody else has ended it.
            UserError: Azure can't be reached; the canary stays as it is.
        """
        target, exam = self._target(self._outputs(bundle))
        ends, count = since + timedelta(minutes=terms.minutes), 0
        while not self._serves_alone(target):
            count += 1
            try:
                found = target.try_out(exam)
            except NoAnswer as error:
                return Looks(count, error.what, [" ".join(filter(None, (error.what, error.why))).rstrip(".")])
            say(f"  canary, look {count}: {found.sentence}")
            against = failures(found, self._spec)
            left = (ends - datetime.now(UTC)).total_seconds()
            if against or left <= 0:
                times = "once" if count == 1 else f"{count} times"
                return Looks(count, f"Tested {times} in the canary: {found.sentence}.", against)
            time.sleep(min(left, 60 * terms.minutes / LOOKS))
        return Looks(count, "It has all the traffic already.", [])

    def promote(self, bundle: Path) -> None:
        """Give the canary all traffic, make it the registry's champion, and delete the version before."""
        target, _ = self._target(self._outputs(bundle))
        if not self._serves_alone(target):
            target.live.promote()

    def withdraw(self, bundle: Path) -> None:
        """Delete the canary, unless somebody else has; the version before gets all traffic."""
        target, _ = self._target(self._outputs(bundle))
        _withdraw(target)

    def _serves_alone(self, target: DeployTarget) -> bool:
        """Whether a version has all traffic and is no longer a canary.

        Raises:
            CanaryEnded: the version neither is a canary nor serves.
            UserError: another version is the canary.
        """
        state = target.live.state() or State({})
        if state.fresh == target.fresh and state.is_canary:
            return False
        if state.fresh is None and state.shares.get(target.fresh) == 100:
            return True
        if state.fresh is not None and state.is_canary:
            raise UserError(
                f"The canary of the {target.live.kind} {target.name} is {state.fresh}, not {target.fresh}.",
                why="Another version of Tunewright or another training created it.",
                fix=f"End it: {command(self._spec, target.live)} --promote  (or --rollback)",
            )
        raise CanaryEnded(CANARY_ENDED, where=target.name)

    def _outputs(self, bundle: Path) -> Outputs:
        folders = made_of(bundle)
        if missing := [step for step in STEPS if step not in folders]:
            raise UserError(
                f"The outputs from which the bundle was built are gone: {', '.join(missing)}.",
                where=bundle,
                fix="Build it again: tunewright retrain … --anyway",
            )
        outputs = Outputs({step: folders[step] for step in STEPS})
        require_capacity(self.to, self._spec, outputs)
        return outputs

    def _target(self, outputs: Outputs) -> tuple[DeployTarget, Exam]:
        exam = exam_of(self._spec, outputs.folders["split"], outputs.folders["parity"])
        return target_of(self.to, self._spec, self._at, outputs, self._identity, dry=False), exam


def _withdraw(target: DeployTarget) -> None:
    """Delete a deployment if it is the fresh one."""
    state = target.live.state()
    if state and state.fresh == target.fresh:
        target.live.withdraw()
