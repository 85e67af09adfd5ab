"""A cache of prefilled prompts, for forward passes over tokens that follow them.

Answering evaluates several branches after one prompt. The keys and values that a prompt leaves in every layer are kept
in the shape of packed batches (`tunewright.training.engine.packing`): a group's prefix once, each prompt's own tokens
in a row. A later batch holds only the tokens that follow, and its layout says which prompt they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.training.engine.packing import numbered, pack
from tunewright.training.loop.encode import IGNORED

Rows = list[tuple[int, Sequence[int]]]
"""Prompts by their place in their group, and the tokens after each."""


class PromptCache:
    """Keys and values of prompts. A model called with `prompt_cache=` this object fills it with the first batch, and
    continues from it with later ones.

    Args:
        prompts: token ids, none empty.
        long_lines: as for `tunewright.training.engine.packing.pack`.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], *, long_lines: bool = False):
        self.batch = pack([numbered(ids, number) for number, ids in enumerate(prompts)], long_lines=long_lines)
        """The batch to prefill; its `labels` are the prompts' numbers, at their last tokens."""
        self._lengths = list(map(len, prompts))
        self._places: list[tuple[int, int]] = [(0, 0)] * len(prompts)
        self._groups: list[dict[str, Any]] = []
        """For each group of the batch: `shared`, tokens of the prefix; `gather` [rows, width], the places of each
        prompt's own tokens after it; `own` [rows], how many there are."""
        self._layers: dict[int, list[tuple[Any, Any, Any, Any]]] = {}
        numbers = self.batch["labels"][0]
        for number, group in enumerate(self.batch["layout"]):
            self._groups.append(self._group(number, group, numbers))

    def _group(self, number: int, group: Mapping[str, Any], numbers: Any) -> dict[str, Any]:
        import torch

        begin = group["start"] + group["shared"]
        ends = (numbers[begin : begin + group["own"]] != IGNORED).nonzero().flatten()
        for place, end in enumerate(ends.tolist()):
            self._places[int(numbers[begin + end])] = (number, place)
        starts = torch.cat([ends.new_zeros(1), ends[:-1] + 1])
        own = ends + 1 - starts
        within = torch.arange(int(own.max()))
        return {
            "shared": group["shared"],
            "own": own,
            "gather": (starts[:, None] + within).clamp(max=group["own"] - 1),
        }

    def keep(self, layer: int, number: int, key: Any, value: Any, prefix_key: Any, prefix_value: Any) -> None:
        """Keep a layer's keys and values of a group.

        Args:
            number: the group's number, in order.
            key: and value: [key heads, own tokens of all prompts, width]; the prefix's: [key heads, shared, width].
        """
        gather = self._groups[number]["gather"].to(key.device)
        self._layers.setdefault(layer, []).append(
            (
                *(x.index_select(1, gather.flatten()).unflatten(1, gather.shape) for x in (key, value)),
                prefix_key.clone(),
                prefix_value.clone(),
            )
        )

    def of(self, layer: int, group: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
        """The keys and values before a group of `continuation`: the prompts' own, [key heads, rows, most own tokens,
        width], and the prefix's."""
        key, value, prefix_key, prefix_value = self._layers[layer][group["of"]]
        return key.index_select(1, group["rows"]), value.index_select(1, group["rows"]), prefix_key, prefix_value

    def continuation(self, paths: Mapping[int, Sequence[int]]) -> dict[str, Any]:
        """A batch of tokens that follow some prompts.

        Args:
            paths: for a prompt's number, the tokens after it, at least one.

        Returns:
            As `tunewright.training.engine.packing.pack`; `labels` are the prompts' numbers, at the last tokens.
        """
        import torch

        ids: list[int] = []
        positions: list[int] = []
        numbers: list[int] = []
        layout = []
        for of in range(len(self._groups)):
            some = [(number, path) for number, path in paths.items() if self._places[number][0] == of]
            if not some:
                continue
            rows = [(self._places[number][1], path) for number, path in some]
            layout.append({"start": len(ids), **self._group_layout(of, rows)})
            for number, path in some:
                ids += path
                positions += range(self._lengths[number], self._lengths[number] + len(path))
                numbers += [IGNORED] * (len(path) - 1) + [number]
        return {
            "input_ids": torch.tensor([ids]),
            "position_ids": torch.tensor([positions]),
            "labels": torch.tensor([numbers]),
            "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool),
            "layout": layout,
        }

    def _group_layout(self, of: int, some: Rows) -> dict[str, Any]:
        """The layout of one group, with one line for each prompt."""
        import torch

        group = self._groups[of]
        rows = torch.tensor([place for place, _ in some])
        counts = torch.tensor([len(path) for _, path in some])
        own = group["own"][rows]
        length, kept = int(counts.max()), group["gather"].shape[1]
        step = torch.arange(length)
        used = step < counts[:, None]
        starts = counts.cumsum(0) - counts
        position = group["shared"] + own[:, None] + step
        earlier = torch.arange(kept)
        return {
            "of": of,
            "rows": rows,
            "shared": group["shared"],
            "own": int(counts.sum()),
            "index": torch.where(used, starts[:, None] + step, 0),
            "position": position,
            "key_position": torch.cat([(group["shared"] + earlier).expand(len(some), -1), position], 1),
            "seen": torch.cat(
                [
                    (earlier < own[:, None])[:, None].expand(-1, length, -1),
                    torch.ones(length, length, dtype=torch.bool).tril().expand(len(some), -1, -1),
                ],
                2,
            ),
            "back": used.flatten().nonzero().flatten(),
        }
