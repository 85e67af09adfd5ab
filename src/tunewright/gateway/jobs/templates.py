"""Which of some templates a prompt has most of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunewright.gateway.jobs.words import Triples

FIXED = 0.9
"""The share of a job's prompts that have a triple of its template. Templates have optional parts, too."""
_BELONGS = 0.7
"""The share of a template's triples that a prompt of its job has."""


class TemplateIndex:
    """Templates of requests of one form.

    Args:
        templates: each with a number. One without triples stands for all prompts that have no other.
    """

    def __init__(self, templates: Sequence[tuple[int, Triples]]):
        self._numbers = [number for number, _ in templates]
        self._rest = next((number for number, triples in templates if not len(triples)), None)
        self._sizes = np.array([len(triples) for _, triples in templates])
        together = np.concatenate([triples for _, triples in templates])
        owners = np.repeat(np.arange(len(templates)), self._sizes)
        order = np.argsort(together, kind="stable")
        self._triples, self._owners = together[order], owners[order]

    def best(self, triples: Triples) -> tuple[int, float] | None:
        """(the number of the template that a prompt has most triples of, the share of them that it has); None: it has
        too little of each."""
        begin = np.searchsorted(self._triples, triples, "left")
        end = np.searchsorted(self._triples, triples, "right")
        hits = end - begin
        places = np.repeat(end - np.cumsum(hits), hits) + np.arange(hits.sum())
        counts = np.bincount(self._owners[places], minlength=len(self._numbers))
        counts[counts < _BELONGS * self._sizes] = 0
        best = int(counts.argmax())
        if counts[best]:
            return self._numbers[best], float(counts[best] / self._sizes[best])
        return None if self._rest is None else (self._rest, 1.0)
