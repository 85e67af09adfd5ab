"""Answering by scoring the labels: every answer is a label, and every label has a probability.

Each label is the token sequence the chat template would produce for it, end-of-turn token included, so that no label
is a prefix of another. The sequences form a trie. At a node with one child nothing is decided; at a branching node the
model's next-token distribution is restricted to the children and renormalised:

    log P(label) = sum over the branching nodes on its path of  log softmax(logits[children])[child taken]

The probabilities of all labels sum to one exactly. What weighs next to nothing need not be asked: for a sure answer one
or two nodes do, however many labels there are. Those that must be asked are asked together, so that a runtime which
reads many sequences in one pass needs no more passes than labels have decisions. The same search serves torch, one
prompt at a time or many at once, and every runtime: a model is only a callable from token ids to the logits of the next
token, or a little more (`BatchModel`, `BranchModel`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NextTokenModel = Callable[[Sequence[int]], npt.NDArray[np.float32]]
"""Token ids of the whole sequence so far -> logits of the next token, shape [vocabulary]."""


@runtime_checkable
class BatchModel(Protocol):
    """A `NextTokenModel` that is quicker asked about several sequences at once."""

    def many(self, sequences: Sequence[Sequence[int]]) -> Sequence[npt.NDArray[np.float32]]:
        """The logits behind each."""
        ...


@runtime_checkable
class BranchModel(Protocol):
    """A model that only tells what it is asked for."""

    def of_tokens(self, asked: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Sequence[npt.NDArray[np.float32]]:
        """For each sequence and some tokens behind it, their logits, or these but for a constant; shape [tokens]."""
        ...


@dataclass
class _Node:
    children: dict[int, _Node] = field(default_factory=dict)
    labels: list[int] = field(default_factory=list)
    """Indices of the labels whose sequences pass through here."""


class LabelTrie:
    """A trie over the labels' canonical token sequences.

    Args:
        sequences: for each label, its token ids with the end-of-turn token.

    Raises:
        ValueError: two labels have the same tokens, or one is a prefix of another.
    """

    def __init__(self, sequences: Sequence[Sequence[int]]):
        self.size = len(sequences)
        self.root = _Node()
        for index, sequence in enumerate(sequences):
            node = self.root
            for token in sequence:
                node.labels.append(index)
                node = node.children.setdefault(token, _Node())
            node.labels.append(index)
        for index, sequence in enumerate(sequences):
            node = self.root
            for token in sequence:
                node = node.children[token]
            if node.children or len(node.labels) > 1:
                raise ValueError(f"label {index} has the tokens of another label, or begins another one")

    @property
    def stem(self) -> tuple[int, ...]:
        """The tokens that all labels begin with."""
        node, path = self.root, []
        while len(node.children) == 1:
            ((token, node),) = node.children.items()
            path.append(token)
        return tuple(path)

    def choices(self, sequence: Sequence[int]) -> list[list[int]]:
        """For each token of a label's sequence, the tokens it is chosen from: one where nothing is decided."""
        node, found = self.root, []
        for token in sequence:
            found.append(list(node.children))
            node = node.children[token]
        return found


REST = 1e-3
"""What the labels of branches that are not asked may weigh, of all labels."""


@dataclass(frozen=True)
class Branch:
    """A branching node that has not been asked."""

    log_probability: float
    path: tuple[int, ...]
    """The tokens that lead to it, behind the prompt."""
    node: _Node

    @property
    def tokens(self) -> list[int]:
        """Those it decides between."""
        return list(self.node.children)


class LabelSearch:
    """The labels' probabilities after one prompt, found branch by branch, the likeliest first."""

    def __init__(self, trie: LabelTrie):
        self.log_probabilities = np.full(trie.size, -np.inf)
        """Of the labels that were reached; shape [labels]."""
        self._open: list[tuple[float, int, Branch]] = []
        """A heap; the number keeps branches that are equally likely in the order in which they were found."""
        self._found = 0
        self._reach(0.0, (), trie.root)

    @property
    def best(self) -> int:
        """The number of the likeliest label that was reached."""
        return int(self.log_probabilities.argmax())

    @property
    def settled(self) -> bool:
        """Whether no label can be likelier than the best."""
        return not self._open or self.log_probabilities[self.best] >= -self._open[0][0]

    def pop(self) -> Branch:
        """The likeliest open branch, which is to be asked now."""
        return heapq.heappop(self._open)[2]

    def take(self, branch: Branch, logits: npt.NDArray[Any]) -> None:
        """What a model says at a branch.

        Args:
            logits: of its tokens, in their order.
        """
        exact = np.asarray(logits, np.float64)
        steps = (exact - np.logaddexp.reduce(exact)).tolist()
        for token, step, child in zip(branch.tokens, steps, branch.node.children.values(), strict=True):
            self._reach(branch.log_probability + step, (*branch.path, token), child)

    def due(self, temperature: float | None) -> list[Branch]:
        """The branches that are to be asked now, the likeliest first; none where the rest may stay open.

        Args:
            temperature: as `score_labels`.
        """
        if temperature is None:
            return [self.pop() for _ in range(len(self._open))]
        found = float(np.exp(self.log_probabilities / temperature).sum())
        weights = [_most(branch, temperature) for _, _, branch in self._open]
        left = sum(weights)
        most = REST * (found + left)
        branches: list[Branch] = []
        while self._open and (left > most or not (self.settled or branches)):
            branches.append(self.pop())
            left -= _most(branches[-1], temperature)
        return branches

    def share_out(self) -> Floats:
        """log P of every label; those of open branches share its probability evenly."""
        for _, _, branch in self._open:
            labels = branch.node.labels
            self.log_probabilities[labels] = branch.log_probability - math.log(len(labels))
        return self.log_probabilities

    def _reach(self, log_probability: float, path: tuple[int, ...], node: _Node) -> None:
        """Go on to the next decision or to the end of a label."""
        while len(node.children) == 1:
            ((token, node),) = node.children.items()
            path = (*path, token)
        if node.children:
            self._found += 1
            heapq.heappush(self._open, (-log_probability, self._found, Branch(log_probability, path, node)))
        else:
            self.log_probabilities[node.labels[0]] = log_probability


def score_labels(
    trie: LabelTrie,
    model: NextTokenModel | BatchModel | BranchModel,
    prompt: Sequence[int],
    temperature: float | None = None,
) -> Floats:
    """log P(label | prompt) of every label, shape [labels]; the probabilities sum to one.

    Args:
        temperature: by which log-probabilities will be divided. With it, branches that then weigh less than `REST` in
            all are not asked: the likeliest label is the same, and its confidence, but for that share at most.
    """
    search = LabelSearch(trie)
    while branches := search.due(temperature):
        for branch, logits in zip(branches, _logits(model, prompt, branches), strict=True):
            search.take(branch, logits)
    return search.share_out()


def _logits(
    model: NextTokenModel | BatchModel | BranchModel, prompt: Sequence[int], branches: Sequence[Branch]
) -> Sequence[npt.NDArray[np.float32]]:
    """Those of each branch's tokens."""
    sequences = [[*prompt, *branch.path] for branch in branches]
    if isinstance(model, BranchModel):
        return model.of_tokens([(ids, branch.tokens) for ids, branch in zip(sequences, branches, strict=True)])
    found = model.many(sequences) if isinstance(model, BatchModel) else [model(ids) for ids in sequences]
    return [logits[branch.tokens] for logits, branch in zip(found, branches, strict=True)]


def _most(branch: Branch, temperature: float) -> float:
    """The most that the labels of a branch can weigh, if log-probabilities are divided by the temperature: above 1 that
    is where they share its probability evenly, below where one has all of it."""
    spread = max(0.0, (1 - 1 / temperature) * math.log(len(branch.node.labels)))
    return math.exp(branch.log_probability / temperature + spread)
