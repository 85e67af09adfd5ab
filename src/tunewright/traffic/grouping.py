"""Group a log of requests by the job behind each, in one pass over a sample and one over all."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from tunewright.gateway.jobs.prompts import PLAIN, Prompt
from tunewright.gateway.jobs.templates import TemplateIndex
from tunewright.gateway.jobs.words import Triples, triples_of
from tunewright.traffic.reservoir import Reservoir, Room
from tunewright.traffic.templates import Template, find_templates

_SAMPLE = 4000
"""Prompts of each form that templates are found in."""
_ROOM = 1 << 25
"""Triples, of 8 bytes, of the samples of all forms together."""
_MOST_FORMS = 500
"""Forms that are told apart; requests of further ones belong to no job."""
_MOST_JOBS = 300
"""Jobs that are told apart, the most frequent first."""
_LEAST_TEMPLATE = 3
"""Triples without which prompts share nothing that makes a job."""

Form = tuple[str, str]


@dataclass(frozen=True)
class FoundJob:
    """A job that was found."""

    form: Form
    template: Template
    """Without triples: requests of this form that share no more."""


class JobFinder:
    """Finds the jobs in a sample of a log, and says of each request which it belongs to.

    Args:
        seed: of the sample.
    """

    def __init__(self, seed: int = 0):
        chance = random.Random(seed)
        room = Room(_ROOM)
        self._samples: dict[Form, Reservoir[Triples]] = defaultdict(lambda: Reservoir(_SAMPLE, chance, room, len))
        self.jobs: list[FoundJob] = []
        self._index: dict[Form, TemplateIndex] = {}

    def add(self, prompts: Iterable[Prompt]) -> None:
        """Draw from further prompts of the log, so that each has the same chance to be in the sample."""
        for prompt in prompts:
            form = _form(prompt)
            if form in self._samples or len(self._samples) < _MOST_FORMS:
                self._samples[form].offer(partial(triples_of, prompt))

    def find(self) -> None:
        """Find the jobs of what was added."""
        found: list[tuple[float, FoundJob]] = []
        for form, sample in self._samples.items():
            for template in find_templates(sample.items):
                if len(template.triples) >= _LEAST_TEMPLATE or _is_job(form):
                    frequency = sample.seen * len(template.rows) / len(sample.items)
                    found.append((frequency, FoundJob(form, template)))
        found.sort(key=lambda each: -each[0])
        self.jobs = [job for _, job in found[:_MOST_JOBS]]
        self._samples = {}
        numbered: dict[Form, list[tuple[int, Triples]]] = defaultdict(list)
        for number, job in enumerate(self.jobs):
            numbered[job.form].append((number, job.template.triples))
        self._index = {form: TemplateIndex(templates) for form, templates in numbered.items()}

    def job_of(self, prompt: Prompt) -> int | None:
        """The number of a request's job; None: it belongs to none."""
        index = self._index.get(_form(prompt))
        found = index.best(triples_of(prompt)) if index else None
        return found[0] if found else None


def _form(prompt: Prompt) -> Form:
    return prompt.kind, prompt.form


def _is_job(form: Form) -> bool:
    """Whether requests of a form are a job though their prompts share nothing: their answers have the same use."""
    kind, asked = form
    return kind == "embeddings" or asked != PLAIN
