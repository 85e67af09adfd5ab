"""Packs batches so that nothing is computed twice: each shared prompt once, then the rest of every example.

A narrow task's examples are short and begin alike. So a batch is one sequence of tokens without padding. Examples that
begin with the same tokens form a group; those tokens, its prefix, come once, and the examples' own tokens follow. Every
position is numbered as if its example stood alone. The layout tells `tunewright.training.engine.attention` which tokens
see which: an example sees its group's prefix and itself. Tokens after an example's last labelled one are dropped, since
nothing depends on them.

    group 1: [prefix][example][example][example]  group 2: [prefix][example][example]

For attention the own tokens are laid out in lines of several examples, so that little is padded. On a CPU all lines
share the prefix's keys, and short lines cost least. GPU kernels read a line's keys from a copy; there lines are as long
as the prefix, so that all copies have about twice as many tokens as the examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tunewright.inference.runtimes.prefix import common_prefix
from tunewright.training.loop.encode import IGNORED, Row, weight_in

LINE = 64
"""A line is filled up to at least so many tokens: longer lines cost more in attention than they save in padding."""
_LONG_LINE = 1024
"""For a long prefix a line is filled up to at most so many tokens, because masks grow with a line's length."""
_GROUP_COST = 16
"""A further group must save so many tokens to be worth its calls."""
NO_CHOICE = -1


@dataclass(frozen=True)
class _Stem:
    """The part of a row that is computed. `targets[i]` is the token to predict at `ids[i]`, or IGNORED."""

    ids: list[int]
    targets: list[int]
    choices: list[list[int]] | None
    weight: float
    """Of each of its labelled tokens."""

    @property
    def shareable(self) -> int:
        """Number of tokens that may be in a prefix: those before the one that predicts the first labelled token."""
        return next(place for place, token in enumerate(self.targets) if token != IGNORED)


def _stem(row: Row) -> _Stem:
    last = max(place for place, label in enumerate(row["labels"]) if label != IGNORED)
    return _Stem(row["input_ids"][:last], row["labels"][1 : last + 1], row.get("choices"), weight_in(row))


@dataclass(frozen=True)
class _Group:
    shared: int
    """Number of tokens in the prefix."""
    stems: list[_Stem]


def pack(rows: Sequence[Row], *, long_lines: bool = False) -> dict[str, Any]:
    """Pack rows into a batch of T tokens.

    Args:
        long_lines: lay lines out for a GPU's kernels.

    Returns:
        `input_ids` and `position_ids`, [1, T]; `labels`, [1, T]: the token to predict *at* a position, or IGNORED;
        `layout`, for each group: `start`; `shared` and `own`, numbers of tokens; `lengths`, the own tokens of each
        example; `index` [lines, length], the own tokens' places after the prefix; `position`, their positions in the
        same shape; `key_position`, the keys' positions, which are the same; `seen`, bool [lines, length, length], true
        where the row's token sees the column's; `back` [own], the place of each own token in the lines;
        `attention_mask`, a dummy that keeps transformers from building one; with rows that have choices `choices`
        [labelled tokens, most choices], in order; with rows that have a weight `weights` [labelled tokens].
    """
    import torch

    ids: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    layout = []
    choices: list[list[int]] = []
    weights: list[float] = []
    for group in _grouped([_stem(row) for row in rows]):
        prefix = group.stems[0].ids[: group.shared]
        start = len(ids)
        ids += prefix
        positions += range(group.shared)
        targets += [IGNORED] * group.shared
        for stem in group.stems:
            ids += stem.ids[group.shared :]
            positions += range(group.shared, len(stem.ids))
            targets += stem.targets[group.shared :]
            choices += stem.choices or []
            weights += _token_weights(stem)
        least = min(group.shared, _LONG_LINE) if long_lines else 0
        layout.append({"start": start, "shared": group.shared, **_lines(group, least)})
    batch = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([targets]),
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool),
        "layout": layout,
    }
    if choices:
        batch["choices"] = _padded_choices(choices)
    return _weighted(batch, weights)


def _token_weights(stem: _Stem) -> list[float]:
    """The weights of a stem's labelled tokens."""
    return [stem.weight] * sum(token != IGNORED for token in stem.targets)


def _weighted(batch: dict[str, Any], weights: Sequence[float]) -> dict[str, Any]:
    """The batch with `weights` [labelled tokens], in order, if they differ from 1."""
    import torch

    return batch if all(weight == 1 for weight in weights) else batch | {"weights": torch.tensor(weights)}


def in_packed_order(rows: Sequence[Row]) -> list[int]:
    """The rows' numbers, in the order of their labelled tokens in a packed batch."""
    ids = [_stem(row).ids for row in rows]
    return sorted(range(len(rows)), key=ids.__getitem__)


def pad(rows: Sequence[Row]) -> dict[str, Any]:
    """Pad rows into a batch, for models that can't take a packed one: one example a row, padded on the right.

    Returns:
        `input_ids`, `labels` (as in `pack`) and `attention_mask`, [examples, length]; `choices` as in `pack`.
    """
    import torch

    stems = [_stem(row) for row in rows]
    length = max(len(stem.ids) for stem in stems)
    batch = {
        "input_ids": torch.tensor([stem.ids + [0] * (length - len(stem.ids)) for stem in stems]),
        "labels": torch.tensor([stem.targets + [IGNORED] * (length - len(stem.ids)) for stem in stems]),
        "attention_mask": torch.tensor([[1] * len(stem.ids) + [0] * (length - len(stem.ids)) for stem in stems]),
    }
    choices = [offered for stem in stems for offered in stem.choices or []]
    if choices:
        batch["choices"] = _padded_choices(choices)
    return _weighted(batch, [weight for stem in stems for weight in _token_weights(stem)])


def numbered(ids: Sequence[int], number: int) -> Row:
    """A row that has its number as its label, so that it can be found again in a batch."""
    return {"input_ids": [*ids, 0], "labels": [IGNORED] * len(ids) + [number]}


def _grouped(stems: Sequence[_Stem]) -> list[_Group]:
    """The grouping that computes the fewest tokens.

    In lexical order, a run of stems shares as many tokens as its least similar neighbours. The best groups are such
    runs, so the search is a shortest path over the places between neighbours.
    """
    order = sorted(stems, key=lambda stem: stem.ids)
    lengths = [len(stem.ids) for stem in order]
    alike = [common_prefix(left.ids, right.ids) for left, right in pairwise(order)]
    best = [(0, 0, 0)]  # cost of the first stems, start of their last group, tokens that it shares
    for end in range(1, len(order) + 1):
        candidates = []
        shared = order[end - 1].shareable
        own = 0
        for begin in range(end - 1, -1, -1):
            if begin < end - 1:
                shared = min(shared, alike[begin], order[begin].shareable)
            own += lengths[begin]
            saved = shared * (end - begin - 1)
            candidates.append((best[begin][0] + own - saved + _GROUP_COST, begin, shared if saved else 0))
        best.append(min(candidates))
    groups = []
    end = len(order)
    while end:
        _, begin, shared = best[end]
        groups.append(_Group(shared, order[begin:end]))
        end = begin
    return groups[::-1]


def _lines(group: _Group, least: int) -> dict[str, Any]:
    """Lay out the own tokens of a group's examples for attention.

    Args:
        least: a line has room for at least so many tokens.
    """
    import torch

    lengths = [len(stem.ids) - group.shared for stem in group.stems]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    lines = _fill_lines(lengths, least)
    length = max(sum(lengths[i] for i in line) for line in lines)
    index = torch.zeros(len(lines), length, dtype=torch.long)
    position, owner = torch.zeros_like(index), torch.full_like(index, -1)
    for number, line in enumerate(lines):
        at = 0
        for i in line:
            place = slice(at, at + lengths[i])
            index[number, place] = torch.arange(starts[i], starts[i] + lengths[i])
            position[number, place] = torch.arange(group.shared, group.shared + lengths[i])
            owner[number, place] = i
            at = place.stop
    used = owner >= 0
    back = torch.empty(sum(lengths), dtype=torch.long)
    back[index[used]] = used.flatten().nonzero().flatten()
    alike = owner[:, :, None] == owner[:, None, :]
    return {
        "own": sum(lengths),
        "lengths": lengths,
        "index": index,
        "position": position,
        "key_position": position,
        "seen": alike & torch.ones(length, length, dtype=torch.bool).tril(),
        "back": back,
    }


def _fill_lines(lengths: Sequence[int], least: int) -> list[list[int]]:
    """Assign examples to lines: the longest first, each to the line that is emptiest so far."""
    room = max(LINE, least, *lengths)
    lines: list[list[int]] = [[] for _ in range(-(-sum(lengths) // room))]
    filled = [0] * len(lines)
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        emptiest = filled.index(min(filled))
        lines[emptiest].append(i)
        filled[emptiest] += lengths[i]
    return lines


def _padded_choices(choices: Sequence[Sequence[int]]) -> Any:
    import torch

    widest = max(map(len, choices))
    return torch.tensor([[*offered, *[NO_CHOICE] * (widest - len(offered))] for offered in choices])
