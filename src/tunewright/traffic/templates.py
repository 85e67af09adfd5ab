"""Find the templates in a sample of prompts: texts that many prompts share, and that other prompts don't have.

A mixture of jobs is split from above. In a group of prompts, the triples of one template occur together: where one is,
all are. Triples of what varies (a ticket, a customer's name) do not, or only a few at a time. So the largest set of
triples that occur together, in a part of the group, is a template, and the part is a job of its own, as long as the
others have something in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunewright.gateway.jobs.templates import FIXED
from tunewright.gateway.jobs.words import Triples, are_edges, are_leads, are_systems

_TOGETHER = 0.8
"""The overlap (Jaccard) from which two triples occur together."""
_LEAST_PROMPTS = 10
"""Prompts of a sample that make a job."""
_LEAST_SHARE = 0.005
"""The same as a share of the sample."""
_TEMPLATE = 8
"""Triples that only an instruction has: two clauses."""
_SHORT_TEMPLATE = 4
"""Triples of an instruction of few words. One so short makes a job only in a group that shares no more."""
_NEVER = 0.1
"""The share of prompts with one instruction that may have another, too. Passages that are looked up come together."""
_COVERED = 0.6
"""The share of the other prompts that must have an instruction of their own, for a set of triples to be one."""
_VALUES = 10
"""Alternatives behind one template from which they are values of a slot, such as the policies of a tenant, and no
instructions."""
_TRIED = 60
"""Alternatives that are looked at."""
_ALL = 0.995
"""The share of a group's prompts from which all have a triple; one job may be nearly all of a group."""
_SIMILAR = 0.75
"""The overlap (Jaccard) of two templates from which they may be versions of one."""
_BLOCKS = 8
"""Sets of triples that are tried in a group, the largest first."""
_CONSIDERED = 1500
"""Triples that are compared with each other in a group, the most frequent first."""

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Template:
    """What the prompts of a job share."""

    triples: Triples
    """Sorted. Empty for prompts that share nothing."""
    rows: Rows
    """The prompts of the sample that have it."""


def find_templates(prompts: Sequence[Triples]) -> list[Template]:
    """The templates in a sample of prompts of one form, the most frequent first. Each prompt has exactly one.

    Args:
        prompts: as `tunewright.gateway.jobs.words.triples_of` gives them.
    """
    least = max(_LEAST_PROMPTS, round(_LEAST_SHARE * len(prompts)))
    found = _Sample(prompts, least)
    parts = found.split(np.arange(len(prompts)))
    templates = [Template(found.shared(rows), rows) for rows in parts]
    return sorted(_merged(templates), key=lambda each: -len(each.rows))


def _are_versions(first: Triples, second: Triples) -> bool:
    """Whether one template only adds to the other. Two that differ both ways may be jobs that share a long preamble."""
    both = len(np.intersect1d(first, second, assume_unique=True))
    either = len(first) + len(second) - both
    return both >= _SIMILAR * max(1, either) and min(len(first), len(second)) - both < _TEMPLATE


class _Sample:
    """The prompts as rows of a matrix, with a column for each triple that enough prompts have."""

    def __init__(self, prompts: Sequence[Triples], least: int):
        self._least = least
        lengths = [len(each) for each in prompts]
        triples, columns = np.unique(np.concatenate([*prompts, np.empty(0, np.uint64)]), return_inverse=True)
        frequent = np.bincount(columns, minlength=len(triples)) >= least
        kept = frequent[columns]
        rows = np.repeat(np.arange(len(prompts)), lengths)[kept]
        renumbered = np.cumsum(frequent) - 1
        shape = len(prompts), int(frequent.sum())
        ones = np.ones(len(rows), np.float32)
        self._matrix = csr_matrix((ones, (rows, renumbered[columns[kept]])), shape=shape)
        self._triples: Triples = triples[frequent]

    def shared(self, rows: Rows) -> Triples:
        """The triples that nearly all of some prompts have."""
        return self._triples[self._counts(rows) >= FIXED * len(rows)]

    def split(self, rows: Rows) -> list[Rows]:
        """Some prompts, split into those of one template each."""
        waiting, whole = [rows], []
        while waiting:
            rows = waiting.pop()
            if parts := self._parts(rows):
                waiting += parts
            else:
                whole.append(rows)
        return whole

    def _counts(self, rows: Rows) -> NDArray[np.float32]:
        return np.asarray(self._matrix[rows].sum(axis=0), np.float32).ravel()

    def _parts(self, rows: Rows) -> list[Rows] | None:
        """The prompts with a template of their own and the others; None: they are all of one job."""
        if len(rows) < 2 * self._least:
            return None
        counts = self._counts(rows)
        fixed = counts >= _ALL * len(rows)
        partial = np.flatnonzero((counts >= self._least) & ~fixed)
        partial = partial[np.argsort(-counts[partial], kind="stable")][:_CONSIDERED]
        here = self._matrix[rows][:, partial].toarray()
        triples, shared = self._triples[partial], int(fixed.sum())
        is_bare = shared < _SHORT_TEMPLATE
        has_system = are_systems(self._triples[fixed]).sum() >= _TEMPLATE
        blocks = [
            block
            for block in _blocks(here, _BLOCKS)
            if len(block) >= max(_SHORT_TEMPLATE, min(_TEMPLATE, shared))
            and self._least <= _with(here, block).sum() <= len(rows) - self._least
        ]
        # What recurs in the middle of messages, such as a signature, may be content.
        placed = [
            bool(are_edges(triples[block]).any() or are_systems(triples[block]).mean() >= 0.5) for block in blocks
        ]
        for is_placed, block in sorted(zip(placed, blocks, strict=True), key=lambda each: not each[0]):
            if has_system and not is_placed:
                break
            has, left = _with(here, block), np.delete(here, block, axis=1)
            most = len(left) if is_bare else _VALUES
            begins = is_bare and are_edges(triples[block]).any()
            if begins or self._have_another(left[~has], left[has], len(block), most):
                return [rows[has], rows[~has]]
        if is_bare and len(leads := np.flatnonzero(are_leads(triples))):
            has = here[:, leads[0]] > 0
            return [rows[has], rows[~has]]
        return None

    def _have_another(self, others: NDArray[np.float32], own: NDArray[np.float32], size: int, most: int) -> bool:
        """Whether prompts without a set of triples have another one in its place.

        Args:
            own: the prompts with the set, without its columns.
            size: triples of the set.
            most: alternatives from which they are values of one slot.
        """
        frequent = np.flatnonzero(others.sum(axis=0) >= self._least)
        others, own = others[:, frequent], own[:, frequent]
        covered, in_own = np.zeros(len(others), bool), np.zeros(len(own), bool)
        alternatives = 0
        for block in _blocks(others, min(most, _TRIED)):
            if len(block) < min(size, _TEMPLATE) / 2:
                break
            covered |= _with(others, block)
            in_own |= _with(own, block)
            alternatives += 1
        return alternatives < most and covered.mean() >= _COVERED and in_own.mean() <= _NEVER


def _with(here: NDArray[np.float32], block: Rows) -> NDArray[np.bool_]:
    """Which rows have a set of columns."""
    has: NDArray[np.bool_] = here[:, block].mean(axis=1) >= _TOGETHER
    return has


def _blocks(here: NDArray[np.float32], most: int) -> Iterator[Rows]:
    """Sets of columns that occur together, the largest first."""
    counts = here.sum(axis=0)
    together = here.T @ here
    alike = together >= _TOGETHER * (counts[:, None] + counts[None, :] - together)
    free = np.ones(len(counts), bool)
    for _ in range(most):
        sizes = (alike & free).sum(axis=1) * free
        if not len(sizes) or sizes.max() == 0:
            return
        block = np.flatnonzero(alike[int(sizes.argmax())] & free)
        yield block
        free[block] = False


def _merged(templates: list[Template]) -> list[Template]:
    """Templates without those that are a version of another."""
    merged: list[Template] = []
    for each in sorted(templates, key=lambda template: -len(template.rows)):
        same = next((index for index, kept in enumerate(merged) if _are_versions(kept.triples, each.triples)), None)
        if same is None:
            merged.append(each)
        else:
            kept = merged[same]
            both = np.intersect1d(kept.triples, each.triples, assume_unique=True)
            merged[same] = Template(both, np.concatenate([kept.rows, each.rows]))
    return merged
