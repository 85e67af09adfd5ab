"""Models in the workspace's registry: each one's lineage, its scores, and which one serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tunewright.backends.azure import assets
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors, found
from tunewright.config import Spec, spec_sha256
from tunewright.core.artifacts import Manifest, read_manifest
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.evaluation.verdict.decision import SERVES
from tunewright.models.linear_model import LINEAR
from tunewright.training.diagnosis.history import ENCODER

STATE = "state"
CHAMPION, CHALLENGER, FORMER = "champion", "challenger", "former"


_CONTENT = "tunewright.content"
"""The property of a version that holds its content's hash."""


@dataclass(frozen=True)
class Registered:
    """A version of a model in the workspace."""

    name: str
    version: str
    """A positive integer: Azure takes no other (rule model-version-is-an-integer)."""
    state: str
    content: str
    """The hash of its content."""

    @property
    def address(self) -> str:
        return f"azureml:{self.name}:{self.version}"


def register(spec: Spec, at: Connection, folders: Mapping[str, Path], verdict: Mapping[str, Any]) -> Registered:
    """Register a run's adapter or tuned encoder, and its bundle, with their lineage. A bundle is registered only once.

    The first model whose verdict is to serve it becomes the champion. Later ones are challengers until they are
    promoted.

    Args:
        folders: the outputs of the steps, by step.
        verdict: the content of verdict.json.

    Raises:
        UserError: Azure refuses, or an output is not whole.
    """
    manifests = {step: _whole(folder) for step, folder in folders.items()}
    lineage = {
        "tunewright.base_model": spec.model_name,
        "tunewright.spec": spec_sha256(spec),
        "tunewright.code": manifests["bundle"].code_version,
        **{f"tunewright.{step}": manifests[step].content for step in ("split", "train", "export", "verdict", "bundle")},
    }
    scores = _scores(verdict)
    kind = next((each for each in (ENCODER, LINEAR) if (folders["train"] / each).is_dir()), "adapter")
    name = f"{TAG}-{spec.name}"
    trained_versions, bundle_versions = versions(at, f"{name}-{kind}"), versions(at, name)
    trained = with_content(manifests["train"].content, trained_versions) or _enter_output(
        at, spec, f"{name}-{kind}", trained_versions, "train", folders["train"], lineage, scores
    )
    if known := with_content(manifests["bundle"].content, bundle_versions):
        return known
    first = not any(each.state == CHAMPION for each in bundle_versions) and scores["decision"] in SERVES
    state = CHAMPION if first else CHALLENGER
    tags = scores | {STATE: state, kind: f"{trained.name}:{trained.version}"}
    model = _enter_output(at, spec, name, bundle_versions, "bundle", folders["bundle"], lineage, tags)
    say(f"  azure: model {name}, version {model.version}: {state}")
    return model


def with_content(content: str, known: Sequence[Registered]) -> Registered | None:
    """The version with a content, of which there is at most one; None if there is none."""
    return next((each for each in known if each.content == content), None)


def enter(
    at: Connection,
    name: str,
    known: Sequence[Registered],
    content: str,
    output: str,
    *,
    tags: Mapping[str, str],
    properties: Mapping[str, str],
    description: str,
) -> Registered:
    """Register a data asset as a model's next version.

    Args:
        known: the model's versions; none of them has this content.
        content: the hash of the content.
        output: the asset's address.

    Raises:
        UserError: Azure refuses.
    """
    from azure.ai.ml.entities import Model
    from azure.core.exceptions import ResourceExistsError

    version = next_version(at, name, known)
    try:
        with azure_errors(f"the model {name}"):
            path = str(at.ml.data.get(*output.split(":")[1:]).path)
            at.ml.models.create_or_update(
                Model(
                    name=name,
                    version=version,
                    path=path,
                    type="custom_model",
                    tags=dict(tags),
                    description=description,
                    properties={**properties, _CONTENT: content},
                )
            )
    except UserError as error:
        # Another process took the number meanwhile, or registered this very content. Or this process did, and the
        # answer was lost.
        now = versions(at, name)
        if entered := with_content(content, now):
            return entered
        if not isinstance(error.__cause__, ResourceExistsError) or next_version(at, name, now) == version:
            raise
        return enter(at, name, now, content, output, tags=tags, properties=properties, description=description)
    return Registered(name, version, tags.get(STATE, ""), content)


def versions(at: Connection, name: str) -> list[Registered]:
    """The registered versions of a model, the newest first. An archived one is not among them: it neither serves nor
    stands for its content.

    Raises:
        UserError: Azure refuses.
    """
    with azure_errors(f"the models {name}"):
        listed = found(lambda: list(at.ml.models.list(name))) or []
    return [
        Registered(name, str(each.version), (each.tags or {}).get(STATE, ""), (each.properties or {}).get(_CONTENT, ""))
        for each in listed
    ]


def next_version(at: Connection, name: str, known: Sequence[Registered]) -> str:
    """The first free version after the known ones. An archived version keeps its number, and the client can't list
    those of a registry, so each number is asked for.

    Raises:
        UserError: Azure refuses.
    """
    numbers = count(1 + max((int(each.version) for each in known), default=0))
    with azure_errors(f"the models {name}"):
        return next(version for version in map(str, numbers) if found(at.ml.models.get, name, version) is None)


def promote(at: Connection, name: str, version: str) -> None:
    """Make a version of a model the champion, and the present champion a former one.

    Raises:
        UserError: Azure refuses.
    """
    for each in versions(at, name):
        if each.version == version and each.state != CHAMPION:
            _tag(at, each, CHAMPION)
        elif each.version != version and each.state == CHAMPION:
            _tag(at, each, FORMER)


def _tag(at: Connection, model: Registered, state: str) -> None:
    with azure_errors(f"the model {model.name}"):
        entity = at.ml.models.get(model.name, model.version)
        entity.tags = {**(entity.tags or {}), STATE: state}
        at.ml.models.create_or_update(entity)


def _whole(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError("This output is not whole.", where=folder, fix="Make it: tunewright run …")
    return manifest


def _scores(verdict: Mapping[str, Any]) -> dict[str, str]:
    """A verdict as tags, which are short texts."""
    summary = verdict["verdict"]
    served = verdict["comparison"]["candidates"]["served"]
    scores = {f"score.{split}": f"{score['primary_metric']['value']:.4f}" for split, score in served["scores"].items()}
    return {
        "decision": str(summary["decision"]),
        "p95_ms": f"{served['latency']['p95_ms']:.0f}",
        "usd_per_month": f"{summary['usd_per_month']:.2f}",
        **scores,
    }


def _enter_output(
    at: Connection,
    spec: Spec,
    name: str,
    known: Sequence[Registered],
    step: str,
    folder: Path,
    lineage: Mapping[str, str],
    tags: Mapping[str, str],
) -> Registered:
    """Register a step's output as a version of a model."""
    content = _whole(folder).content
    output = assets.data_asset(at, f"{TAG}-{spec.name}-{step}", content[: assets.DIGITS], folder, {TAG: spec.name})
    return enter(
        at,
        name,
        known,
        content,
        output,
        tags={TAG: spec.name, **tags},
        properties=lineage,
        description=f"{step} of the Tunewright job {spec.name}",
    )
