"""The canary of a model that is served in Azure: a deployment with a share of the traffic, tried again and again."""

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
from tunewright.deploy.live import State
from tunewright.deploy.outputs import STEPS, Outputs
from tunewright.deploy.preflight import endpoint_checks, require
from tunewright.deploy.trial import Exam, NoAnswer
from tunewright.monitoring.retraining.canary import LOOKS, CanaryTerms, TakenAway
from tunewright.monitoring.retraining.contest import made_of


@dataclass(frozen=True)
class Looks:
    """How a canary did while it had traffic."""

    count: int
    """Times that it was tried."""
    sentence: str
    against: list[str]
    """What speaks against it."""


class InAzure:
    """Where a project's model is served in Azure.

    Args:
        to: aml, aks or aca.
        identity: who may ask a container app.
    """

    def __init__(self, spec: Spec, to: str, identity: Path | None):
        self._spec, self.to, self._identity = spec, to, identity
        self._at = connect(spec)

    def begin(self, bundle: Path, terms: CanaryTerms | None) -> Released:
        """Register a bundle, deploy it beside what serves, try it, and give it its share of the traffic.

        Args:
            terms: of the canary; None: it gets all at once.

        Raises:
            GateFailed: it does not keep a gate; it was taken away.
            UserError: Azure refuses, or has not the room; nothing of it was left standing.
        """
        outputs = self._outputs(bundle)
        if self.to == "aml":
            require(endpoint_checks(self._spec, self._at, outputs))
        target, exam = self._target(outputs)
        percent = min(99, max(1, round(100 * terms.share))) if terms else None
        try:
            return release(self._spec, target, exam, percent)
        except GateFailed:
            # One that stood already, because this was cut off before, is only tried by `release`.
            state = target.live.state()
            if state and state.fresh == target.fresh:
                target.live.withdraw()
            raise

    def watch(self, bundle: Path, since: datetime, terms: CanaryTerms) -> Looks:
        """Try a canary while it has traffic, until its time is over or something speaks against it.

        Args:
            since: when it began.

        Raises:
            TakenAway: somebody else has ended it.
            UserError: Azure can't be reached; the canary stands as it is.
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
                return Looks(count, f"Tried {times} in the canary: {found.sentence}.", against)
            time.sleep(min(left, 60 * terms.minutes / LOOKS))
        return Looks(count, "It serves all already.", [])

    def promote(self, bundle: Path) -> None:
        """It serves all, and is the registry's champion; what served before goes."""
        target, _ = self._target(self._outputs(bundle))
        if not self._serves_alone(target):
            target.live.promote()

    def withdraw(self, bundle: Path) -> None:
        """It goes; what served before serves all."""
        target, _ = self._target(self._outputs(bundle))
        target.live.withdraw()

    def _serves_alone(self, target: DeployTarget) -> bool:
        """Whether a version has all traffic and is no canary any more.

        Raises:
            TakenAway: it is no canary, and does not serve.
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
                why="It was made by another version of Tunewright, or of another training.",
                fix=f"End it: tunewright deploy {self._spec.folder} --to {self.to} --promote  (or --rollback)",
            )
        raise TakenAway("The canary was ended by somebody else.", where=target.name)

    def _outputs(self, bundle: Path) -> Outputs:
        folders = made_of(bundle)
        if missing := [step for step in STEPS if step not in folders]:
            raise UserError(
                f"Of what the bundle was made of, {', '.join(missing)} is gone.",
                where=bundle,
                fix="Make it again: tunewright retrain … --anyway",
            )
        outputs = Outputs({step: folders[step] for step in STEPS})
        require_capacity(self.to, self._spec, outputs)
        return outputs

    def _target(self, outputs: Outputs) -> tuple[DeployTarget, Exam]:
        exam = exam_of(self._spec, outputs.folders["split"], outputs.folders["parity"])
        return target_of(self.to, self._spec, self._at, outputs, self._identity, dry=False), exam
