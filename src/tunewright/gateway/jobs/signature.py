"""By what the requests of a job are recognised: `job.json`, written from captured traffic and read by the gateway."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from tunewright.core.errors import UserError
from tunewright.core.limits import JOB_LETTERS, JOB_MESSAGES
from tunewright.core.samples import evenly
from tunewright.gateway.jobs.prompts import Prompt, read_prompt
from tunewright.gateway.jobs.slots import parts_of, pattern_of, variable_text
from tunewright.gateway.jobs.templates import FIXED, TemplateIndex
from tunewright.gateway.jobs.words import Triples, fixed_triples_of, triples_of
from tunewright.gateway.routes import Kind

JOB_FILE = "job.json"
OwnAnswerKind = Literal["label", "record", "text", "call"]
"""What an own model answers. call: a call of one of several tools, or a text."""
_RECOGNISED = 0.98
"""The share of the captured prompts that must be recognised. The rarest forms are left to the API."""
_LOOKED_AT = 2000
"""Prompts that fixed triples and patterns are found in."""
_MAY_LACK = 2
"""Triples of the template that a prompt may lack, such as a full stop at a message's end that all captured ones had. A
sentence that is gone from the instruction takes more with it."""
_RIVAL = -1
"""In place of a job's number."""
_RIVALS = 30
"""Templates of other jobs that are kept, the most similar first."""


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return np.frombuffer(base64.b64decode(value, validate=True), "<u8").astype(np.uint64)


_StoredTriples = Annotated[
    Triples,
    BeforeValidator(_decoded),
    PlainSerializer(lambda triples: base64.b64encode(np.asarray(triples, "<u8").tobytes()).decode()),
]


class JobSignature(BaseModel):
    """What the requests of a job have in common, and what its answers look like. It holds hashes and no texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    name: str
    kind: Kind
    form: str
    """As `Prompt.form`."""
    template: _StoredTriples
    """As `triples_of`."""
    fixed: _StoredTriples
    """As `fixed_triples_of`: by these a prompt is cut."""
    least_share: Annotated[float, Field(ge=0, le=1)]
    """The share of the template that a prompt must have."""
    patterns: frozenset[str]
    """The patterns of its prompts, as `pattern_of`. A prompt with another one has a text that the job never had."""
    rivals: list[_StoredTriples]
    """Templates of other jobs of the same form. A prompt that has more of one of these is not of this job."""
    answer: OwnAnswerKind
    tool: str | None = None
    """The tool whose arguments the record is; None: the record is the answer's text."""
    key: str | None = None
    """The only key of a record that holds the label; None: the label is the answer's text."""


@dataclass(frozen=True)
class Recognised:
    """A request of a job."""

    job: str
    text: str | None
    """The input; None: the request has the job's template, and besides it something that the job's prompts never
    had."""


class Recogniser:
    """Tells of each request whether it is of one of some jobs.

    Args:
        signatures: by the jobs' names.
    """

    def __init__(self, signatures: Mapping[str, JobSignature]):
        self._jobs = list(signatures.items())
        templates: dict[tuple[str, str], list[tuple[int, Triples]]] = defaultdict(list)
        for number, (_, signature) in enumerate(self._jobs):
            templates[signature.kind, signature.form].append((number, signature.template))
        own = [signature.template for _, signature in self._jobs]
        for _, signature in self._jobs:
            known = templates[signature.kind, signature.form]
            known += [(_RIVAL, rival) for rival in signature.rivals if not _is_among(rival, own)]
        self._index = {form: TemplateIndex(listed) for form, listed in templates.items()}

    def recognise(self, kind: Kind, request: Mapping[str, Any]) -> Recognised | None:
        """The job that a request is of; None: it is of none, or too large to be looked at. Thread-safe.

        Args:
            kind: of the route.
            request: its JSON object.
        """
        if not self._index:
            return None
        prompt = read_prompt(kind, request)
        index = self._index.get((kind, prompt.form))
        found = index.best(triples_of(prompt)) if index and not _is_huge(prompt) else None
        if found is None or found[0] == _RIVAL:
            return None
        name, signature = self._jobs[found[0]]
        if not prompt.is_text or found[1] < signature.least_share:
            return Recognised(name, None)
        parts = parts_of(prompt, signature.fixed)
        text = variable_text(parts) if pattern_of(prompt, parts) in signature.patterns else None
        return Recognised(name, text or None)


def fixed_in(prompts: Sequence[Prompt]) -> Triples:
    """The triples that nearly all prompts of a job have, as `fixed_triples_of` gives them."""
    looked_at = evenly(prompts, _LOOKED_AT)  # the first would be the oldest
    together = np.concatenate([np.empty(0, np.uint64), *map(fixed_triples_of, looked_at)])
    triples, counts = np.unique(together, return_counts=True)
    return triples[counts >= max(2.0, FIXED * len(looked_at))]


def signature_of(
    name: str,
    prompts: Sequence[Prompt],
    template: Triples,
    fixed: Triples,
    rivals: Sequence[Triples],
    answer: OwnAnswerKind,
    tool: str | None = None,
    key: str | None = None,
) -> JobSignature:
    """The signature of a job.

    Args:
        prompts: some of the job, drawn at random; their order may be that of time.
        fixed: as `fixed_in` finds them.
        rivals: the templates of the other jobs of the same form.
    """
    looked_at = evenly(prompts, _LOOKED_AT)
    patterns = Counter(pattern_of(prompt, parts_of(prompt, fixed)) for prompt in looked_at)
    shares = sorted(_overlap(triples_of(prompt), template) / max(1, len(template)) for prompt in looked_at)
    alike = sorted(rivals, key=lambda rival: -_overlap(rival, template))
    return JobSignature(
        name=name,
        kind=prompts[0].kind,
        form=prompts[0].form,
        template=template,
        fixed=fixed,
        least_share=max(0.0, shares[int((1 - _RECOGNISED) * len(shares))] - _MAY_LACK / max(1, len(template))),
        patterns=frozenset(_most_frequent(patterns)),
        rivals=alike[:_RIVALS],
        answer=answer,
        tool=tool,
        key=key,
    )


def write_signature(folder: Path, signature: JobSignature) -> None:
    """Write `job.json` into a project's folder."""
    (folder / JOB_FILE).write_text(signature.model_dump_json(indent=1) + "\n", "utf-8")


def read_signature(folder: Path) -> JobSignature:
    """The signature in a project's folder.

    Raises:
        UserError: there is none, or it can't be read.
    """
    file = folder / JOB_FILE
    fix = "Make the project anew: tunewright init CAPTURES --from-traffic JOB"
    try:
        return JobSignature.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise UserError(
            "This project has no job.json, by which the gateway recognises requests.", where=folder, fix=fix
        ) from None
    except (OSError, ValidationError, ValueError):
        raise UserError("The gateway can't recognise a job by this file.", where=file, fix=fix) from None


def _is_huge(prompt: Prompt) -> bool:
    """Whether a prompt is too large to look for a job in it."""
    return len(prompt.messages) > JOB_MESSAGES or sum(len(text) for _, text in prompt.messages) > JOB_LETTERS


def _most_frequent(patterns: Counter[str]) -> list[str]:
    """The patterns that together make nearly all prompts."""
    most, kept, seen = _RECOGNISED * patterns.total(), [], 0
    for pattern, count in patterns.most_common():
        if seen >= most:
            break
        kept.append(pattern)
        seen += count
    return kept


def _overlap(first: Triples, second: Triples) -> int:
    return len(np.intersect1d(first, second, assume_unique=True))


def _is_among(triples: Triples, own: Sequence[Triples]) -> bool:
    return any(np.array_equal(triples, each) for each in own)
