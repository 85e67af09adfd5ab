"""Retraining from start to end. The store notes each finished stage, so a killed retraining continues from there.

    collect, corrections, run -> trained -> shadow -> canary -> promoted
                              -> refused           -> rolled-back

The canary runs on the servers of this file system, or as a deployment in Azure if the model is served there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from tunewright.config import Spec
from tunewright.core.errors import GateFailed, UserError
from tunewright.core.processes import sole_writer
from tunewright.core.progress import say
from tunewright.inference.bundle import CASCADE, load_bundle, read_info
from tunewright.inference.runtimes.base import is_classifier
from tunewright.monitoring.retraining import events
from tunewright.monitoring.retraining.canary import CANARY_ENDED, CanaryEnded, CanaryTerms, is_served, watch
from tunewright.monitoring.retraining.contest import contest, escalations_count, made_of
from tunewright.monitoring.retraining.in_azure import InAzure
from tunewright.monitoring.retraining.serves import changing_what_serves
from tunewright.monitoring.retraining.shadow import Appraise, shadow
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Deployment
from tunewright.project import Serving, read_serving, served_from, write_serving

LOCK = "retraining"
"""The folder that a retraining locks."""
_WARM_EPOCHS = 0.5
"""The share of the usual epochs if training starts from the champion's adapter."""
_CHANGED = "The champion has changed since the comparison."


class TrainedChallenger(Protocol):
    """The result of a run of the pipeline."""

    @property
    def bundle(self) -> Path: ...

    @property
    def gate_failures(self) -> list[str]: ...


@dataclass(frozen=True)
class Parts:
    """The functions of other packages that a retraining uses."""

    latest: Callable[[], Path]
    """The project's latest bundle, which is the champion if there is none yet."""
    collect: Callable[[], object]
    """Moves captures into the store."""
    collect_corrections: Callable[[], str]
    """Writes new reviews as corrections. Returns a hash that pins all of them; empty if there are none."""
    freeze: Callable[[], object]
    """Adds a share of the new rows to the frozen test, if there is one."""
    run: Callable[[Spec], TrainedChallenger]
    """Runs the pipeline on the current data."""
    appraise: Appraise
    """Updates the review queue for captures that have new opinions."""
    served: InAzure | None = None
    """The deployments in Azure; None: servers with access to this file system."""


@dataclass(frozen=True)
class Course:
    """How the challenger is trained and tried."""

    shadow: int = 200
    """Captured requests that it answers in shadow."""
    canary: CanaryTerms | None = field(default_factory=CanaryTerms)
    """None: it is promoted without a canary."""
    warm: bool = False
    """Start from the champion's adapter."""
    anyway: bool = False
    """Train even without new corrections since the last training."""


@dataclass(frozen=True)
class Retrained:
    """The result of a retraining."""

    event: str | None
    """promoted, refused or rolled-back; None if there was nothing to learn."""
    sentence: str
    champion: str
    """The version that serves now."""
    challenger: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    """The results of the gate, the shadow and the canary."""


def retrain(spec: Spec, store: Store, runs: Path, parts: Parts, course: Course) -> Retrained:
    """Train a model and promote it if it proves better than the champion. A killed retraining continues.

    Args:
        runs: the folder of outputs.

    Raises:
        UserError: another retraining is running, the project has no model yet, or a step needs the user.
    """
    champion_of(runs, parts.latest)  # a project without a model is refused before anything is written
    lock = runs / LOCK
    lock.mkdir(parents=True, exist_ok=True)
    with sole_writer(lock):
        return _Retraining(spec, store, runs, parts, course).run()


def champion_of(runs: Path, latest: Callable[[], Path]) -> Serving:
    """The serving state by `serving.json`, or the latest bundle if there is no such file.

    Raises:
        UserError: there is no bundle, or the file can't be read.
    """
    serving = read_serving(runs)
    if serving is None:
        folder = latest().resolve()
        serving = served_from(_inside(runs, folder), read_info(folder).version)
    return serving


def of_champion(spec: Spec, runs: Path, latest: Callable[[], Path]) -> Spec:
    """A spec of several candidates, reduced to the candidate that serves now, or to both parts of a cascade. Only `run`
    makes a new choice.

    Args:
        runs, latest: as in `champion_of`.

    Raises:
        UserError: as `champion_of`.
    """
    if not spec.candidates:
        return spec
    serves = read_info(runs / champion_of(runs, latest).champion.bundle).base_model.split(CASCADE)
    same = [each for each in spec.each_candidate if each.model_name in serves]
    if len(same) < len(serves):
        return spec
    parts = tuple(each.model for each in same)
    return same[0] if len(parts) == 1 else spec.model_copy(update={"candidates": parts, "model": parts[0]})


def _inside(runs: Path, folder: Path) -> str:
    return folder.resolve().relative_to(runs.resolve()).as_posix()


class _Retraining:
    def __init__(self, spec: Spec, store: Store, runs: Path, parts: Parts, course: Course):
        self._spec, self._store, self._runs, self._parts, self._course = spec, store, runs, parts, course

    @property
    def _serving(self) -> Serving:
        """What serves now. It is read each time, because a person may roll back while a stage takes hours."""
        return champion_of(self._runs, self._parts.latest)

    def run(self) -> Retrained:
        self._parts.collect()
        at = self._unfinished() or self._train()
        if at is None:
            return Retrained(
                None,
                "There is nothing new to learn: no review has become a correction since the last training. To train "
                "anyway: --anyway",
                self._serving.champion.version,
            )
        stages = {events.TRAINED: self._shadow, events.SHADOW: self._canary, events.CANARY: self._watch}
        while stage := stages.get(at.event):
            say(f"{at.event}: version {at.version}")
            at = self._overtaken(at) or stage(at)
        return Retrained(at.event, at.detail["sentence"], self._serving.champion.version, at.version, at.detail)

    def _unfinished(self) -> Deployment | None:
        """The last event of an unfinished retraining; None if there is none."""
        with self._store.session() as session:
            at = events.last(session, self._spec.name)
        if at is None or at.event not in events.UNFINISHED:
            return None
        if not (self._runs / at.detail["bundle"]).is_dir():
            self._note(at, events.ROLLED_BACK, "The challenger's bundle is gone.")
            return None
        return None if self._overtaken(at) else at

    def _overtaken(self, at: Deployment) -> Deployment | None:
        """The event that ends the retraining if another champion serves than the one that the challenger was compared
        with; None if that one serves, or the challenger itself."""
        if self._serving.champion.version in (at.detail["champion"], at.version):
            return None
        if "place" in at.detail:
            self._served_at(at).withdraw(self._runs / at.detail["bundle"])
        return self._note(at, events.ROLLED_BACK, _CHANGED)

    def _train(self) -> Deployment | None:
        """Train on the corrected data and compare the new model with the champion; None if there is nothing to
        learn."""
        spec, began = self._spec, datetime.now(UTC)
        corrections = self._parts.collect_corrections()
        with self._store.session() as session:
            before = events.last(session, spec.name, events.TRAINED, events.REFUSED)
        if corrections == (before.detail["corrections"] if before else "") and not self._course.anyway:
            return None
        # Pin the champion before there is a later bundle, and drop a challenger that was rolled back.
        with changing_what_serves(self._runs):
            write_serving(self._runs, self._serving.alone())
        self._parts.freeze()
        trained = self._parts.run(self._warm(spec) if self._course.warm else spec)
        version = read_info(trained.bundle).version
        champion = self._serving.champion  # read after the training: it may have changed meanwhile
        detail = {
            "bundle": _inside(self._runs, trained.bundle),
            "champion": champion.version,
            "corrections": corrections,
            "begun": began.isoformat(),
            "warm": self._course.warm,
        }
        if version == champion.version:
            detail["sentence"] = "Refused: the training produced the model that already serves."
            return events.record(self._store, spec.name, version, events.REFUSED, detail)
        decision = contest(spec, self._runs, self._runs / champion.bundle, trained.bundle, trained.gate_failures)
        say(f"gate: {decision.sentence}")
        detail |= {"sentence": decision.sentence, "decision": asdict(decision)}
        event = events.TRAINED if decision.passed else events.REFUSED
        return events.record(self._store, spec.name, version, event, detail)

    def _warm(self, spec: Spec) -> Spec:
        """A spec that trains from the champion's adapter, for half of the epochs."""
        champion = self._runs / self._serving.champion.bundle
        info = read_info(champion)
        if is_classifier(info.runtime):
            raise UserError(
                f"The champion, {info.base_model}, is not a language model, so training can't start from it.",
                where=champion,
                why="Its training is short and always starts from the base model, with all weights.",
                fix="Leave --warm out.",
            )
        folder, base = made_of(champion).get("train"), info.base_model
        if folder is None or base != spec.model_name:
            what = "The champion's adapter is gone." if folder is None else f"The champion's base model is {base}."
            raise UserError(what, where=champion, fix="Train from the base model: leave --warm out.")
        changes = {"init_adapter": folder / "adapter", "epochs": spec.train.epochs * _WARM_EPOCHS}
        return spec.model_copy(update={"train": spec.train.model_copy(update=changes)})

    def _shadow(self, at: Deployment) -> Deployment:
        if not self._course.shadow:
            return self._note(at, events.SHADOW, "There was no shadow.")
        champion = self._runs / self._serving.champion.bundle
        found = shadow(
            self._store,
            self._spec.name,
            load_bundle(champion),
            self._runs / at.detail["bundle"],
            self._parts.appraise,
            most=self._course.shadow,
            margin=self._spec.goal.margin,
            escalations=escalations_count(champion),
        )
        say(f"shadow: {found.sentence}")
        if found.against:
            return self._note(
                at, events.ROLLED_BACK, f"Rolled back in shadow: {found.against[0]}.", shadow=asdict(found)
            )
        return self._note(at, events.SHADOW, found.sentence, shadow=asdict(found))

    def _canary(self, at: Deployment) -> Deployment:
        terms = self._course.canary
        if self._parts.served:
            return self._deploy(at, self._parts.served, terms)
        if terms is None:
            return self._promote(at, "Promoted without a canary.")
        if not is_served(self._runs, self._serving.champion.version):
            say("No server of this project runs on this file system, so there is no canary.")
            return self._promote(at, "Promoted without a canary, because no server is running.")
        return self._note(at, events.CANARY, f"{terms.share:.0%} of the requests go to it.", share=terms.share)

    def _deploy(self, at: Deployment, served: InAzure, terms: CanaryTerms | None) -> Deployment:
        """Start the canary in Azure."""
        try:
            released = served.begin(self._runs / at.detail["bundle"], terms)
        except GateFailed as error:
            return self._note(at, events.ROLLED_BACK, f"Refused by the trial at {served.to}: {error}")
        if released.percent == 100:
            return self._promote(at, f"Promoted at {released.name}, {released.trial.sentence}.", place=served.to)
        sentence = f"{released.percent} % of the traffic of {released.name} go to it."
        return self._note(at, events.CANARY, sentence, share=released.percent / 100, place=served.to)

    def _served_at(self, at: Deployment) -> InAzure:
        """The place in Azure where a challenger is a canary.

        Raises:
            UserError: the command was started for another place.
        """
        served = self._parts.served
        if served is None or served.to != at.detail["place"]:
            raise UserError(
                f"The challenger, version {at.version}, is a canary in Azure.",
                where=at.detail["place"],
                fix=f"Continue there: tunewright retrain {self._spec.project_arguments()} --to {at.detail['place']}"
                + (" --identity FILE" if at.detail["place"] == "aca" else ""),
            )
        return served

    def _watch_in_azure(self, at: Deployment, terms: CanaryTerms) -> Deployment:
        served, bundle = self._served_at(at), self._runs / at.detail["bundle"]
        try:
            found = served.watch(bundle, at.time, terms)
        except CanaryEnded as error:
            return self._note(at, events.ROLLED_BACK, error.what)
        say(f"canary: {found.sentence}")
        if found.against:
            served.withdraw(bundle)
            why = f"Rolled back in the canary: {'; '.join(found.against)}."
            return self._note(at, events.ROLLED_BACK, why, canary=asdict(found))
        if ended := self._overtaken(at):
            return ended
        served.promote(bundle)
        return self._promote(at, f"Promoted. {found.sentence}", canary=asdict(found))

    def _watch(self, at: Deployment) -> Deployment:
        if self._serving.champion.version == at.version:
            return self._promote(at, "Promoted.")  # the process was killed before it noted this
        terms = self._course.canary or CanaryTerms()
        if "place" in at.detail:
            return self._watch_in_azure(at, terms)
        self._begin(at)
        try:
            found = watch(
                self._store,
                self._runs,
                self._spec.name,
                at.version,
                at.time,
                terms,
                margin=self._spec.goal.margin,
                p95_ms=self._spec.goal.p95_ms,
                collect=self._parts.collect,
                escalations=escalations_count(self._runs / self._serving.champion.bundle),
            )
        except CanaryEnded as error:
            return self._ended(at, error.what)
        say(f"canary: {found.sentence}")
        if found.against:
            return self._end_canary(at, f"Rolled back in the canary: {found.against[0]}.", canary=asdict(found))
        return self._promote(at, f"Promoted. {found.sentence}", canary=asdict(found))

    def _begin(self, at: Deployment) -> None:
        """Give the challenger its share of the requests, unless it has it, or somebody has changed what serves."""
        with changing_what_serves(self._runs):
            serving = self._serving
            if serving.challenger is None and serving.champion.version == at.detail["champion"]:
                write_serving(self._runs, serving.trying(at.detail["bundle"], at.version, at.detail["share"]))

    def _end_canary(self, at: Deployment, sentence: str, **results: Any) -> Deployment:
        """Let the champion answer all requests again."""
        with changing_what_serves(self._runs):
            serving = self._serving
            if why := _conflict(at, serving):
                return self._ended(at, why)
            write_serving(self._runs, serving.alone())
            return self._note(at, events.ROLLED_BACK, sentence, **results)

    def _promote(self, at: Deployment, sentence: str, **results: Any) -> Deployment:
        """Let the challenger answer all requests, unless somebody has changed what serves since it was compared. In
        Azure it answers all requests already, so there the file follows."""
        with changing_what_serves(self._runs):
            serving = self._serving
            if serving.champion.version != at.version:
                if "place" not in at.detail | results and (why := _conflict(at, serving)):
                    return self._ended(at, why)
                write_serving(self._runs, serving.promoted(at.detail["bundle"], at.version))
            return self._note(at, events.PROMOTED, sentence, **results)

    def _ended(self, at: Deployment, why: str) -> Deployment:
        """The event with which somebody else has ended this retraining, or else a new one."""
        with self._store.session() as session:
            now = events.last(session, self._spec.name)
        if now and now.number > at.number and now.version == at.version:
            return now
        return self._note(at, events.ROLLED_BACK, why)

    def _note(self, at: Deployment, event: str, sentence: str, **results: Any) -> Deployment:
        """Record the next event of the same challenger."""
        detail = at.detail | {"sentence": sentence} | results
        return events.record(self._store, self._spec.name, at.version, event, detail)


def _conflict(at: Deployment, serving: Serving) -> str:
    """Why a challenger must not take over from what serves; empty if it may."""
    if serving.champion.version != at.detail["champion"]:
        return _CHANGED
    on_trial = serving.challenger.version if serving.challenger else None
    return CANARY_ENDED if at.event == events.CANARY and on_trial != at.version else ""
