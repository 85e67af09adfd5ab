"""Scoring labels: the probability of every label after a prompt.

Each label is the token sequence that the chat template produces for it, with the end-of-turn token, so that no label is
a prefix of another. The sequences form a trie. A node with one child decides nothing. At a branching node, the model's
next-token distribution is restricted to the children and renormalised:

    log P(label) = sum over the branching nodes on its path of  log softmax(logits[children])[child taken]

The probabilities of all labels sum to one exactly. Branches with a negligible probability are skipped: a confident
answer needs one or two nodes, however many labels there are. The other branches run together, so that a runtime with
many sequences a pass needs no more passes than a label has decisions. The same search serves all runtimes, and torch
with one prompt or many. A model is only a callable from token ids to the logits of the next token, or one that gives
those of some tokens after many sequences at once (`BranchModel`).
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
class BranchModel(Protocol):
    """A model that returns the logits of chosen tokens only, after several sequences at once."""

    def of_tokens(self, queries: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Sequence[npt.NDArray[np.float32]]:
        """For each (sequence, tokens), the logits of the tokens after the sequence, up to a constant; shape
        [tokens]."""
        ...


@dataclass
class _Node:
    children: dict[int, _Node] = field(default_factory=dict)
    labels: list[int] = field(default_factory=list)
    """Indices of the labels whose sequences pass through here."""


class LabelTrie:
    """A trie over the labels' canonical token sequences.

    Args:
        sequences: the token ids of each label, with the end-of-turn token.

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
        """The alternatives of each token of a label's sequence; a single one if the node decides nothing."""
        node, choices = self.root, []
        for token in sequence:
            choices.append(list(node.children))
            node = node.children[token]
        return choices


REST = 1e-3
"""Share of the probability that the labels of skipped branches may have."""


@dataclass(frozen=True)
class Branch:
    """A branching node that has not been scored yet."""

    log_probability: float
    path: tuple[int, ...]
    """The tokens that lead to it after the prompt."""
    node: _Node

    @property
    def tokens(self) -> list[int]:
        """The tokens of its children."""
        return list(self.node.children)


class LabelSearch:
    """Finds the labels' probabilities after one prompt, branch by branch, the likeliest first."""

    def __init__(self, trie: LabelTrie):
        self.log_probabilities = np.full(trie.size, -np.inf)
        """Log-probabilities of the labels that were reached; shape [labels]."""
        self._open: list[tuple[float, int, Branch]] = []
        """A heap. The number keeps equally likely branches in the order in which they were reached."""
        self._reached = 0
        self._reach(0.0, (), trie.root)

    @property
    def best(self) -> int:
        """The number of the likeliest label that was reached."""
        return int(self.log_probabilities.argmax())

    @property
    def settled(self) -> bool:
        """Whether no label can be likelier than the best one."""
        return not self._open or self.log_probabilities[self.best] >= -self._open[0][0]

    def pop(self) -> Branch:
        """Remove and return the likeliest open branch."""
        return heapq.heappop(self._open)[2]

    def take(self, branch: Branch, logits: npt.NDArray[Any]) -> None:
        """Record a model's logits at a branch.

        Args:
            logits: those of the branch's tokens, in their order.
        """
        exact = np.asarray(logits, np.float64)
        steps = (exact - np.logaddexp.reduce(exact)).tolist()
        for token, step, child in zip(branch.tokens, steps, branch.node.children.values(), strict=True):
            self._reach(branch.log_probability + step, (*branch.path, token), child)

    def due(self, temperature: float | None) -> list[Branch]:
        """The branches to score next, the likeliest first; none if the rest may stay open.

        Args:
            temperature: see `score_labels`.
        """
        if temperature is None:
            return [self.pop() for _ in range(len(self._open))]
        reached = float(np.exp(self.log_probabilities / temperature).sum())
        left = sum(_max_weight(branch, temperature) for _, _, branch in self._open)
        allowed = REST * (reached + left)
        branches: list[Branch] = []
        while self._open and (left > allowed or not (self.settled or branches)):
            branches.append(self.pop())
            left -= _max_weight(branches[-1], temperature)
        return branches

    def share_out(self) -> Floats:
        """log P of every label. The labels of an open branch share its probability evenly."""
        for _, _, branch in self._open:
            labels = branch.node.labels
            self.log_probabilities[labels] = branch.log_probability - math.log(len(labels))
        return self.log_probabilities

    def _reach(self, log_probability: float, path: tuple[int, ...], node: _Node) -> None:
        """Follow the trie to the next branching node or to the end of a label."""
        while len(node.children) == 1:
            ((token, node),) = node.children.items()
            path = (*path, token)
        if node.children:
            self._reached += 1
            heapq.heappush(self._open, (-log_probability, self._reached, Branch(log_probability, path, node)))
        else:
            self.log_probabilities[node.labels[0]] = log_probability


def score_labels(
    trie: LabelTrie,
    model: NextTokenModel | BranchModel,
    prompt: Sequence[int],
    temperature: float | None = None,
) -> Floats:
    """log P(label | prompt) of every label, shape [labels]; the probabilities sum to one.

    Args:
        temperature: the later divisor of the log-probabilities. With it, branches that together weigh less than `REST`
            are skipped. The likeliest label stays the same, and its confidence changes by at most that share.
    """
    search = LabelSearch(trie)
    while branches := search.due(temperature):
        for branch, logits in zip(branches, _logits(model, prompt, branches), strict=True):
            search.take(branch, logits)
    return search.share_out()


def _logits(
    model: NextTokenModel | BranchModel, prompt: Sequence[int], branches: Sequence[Branch]
) -> Sequence[npt.NDArray[np.float32]]:
    """The logits of each branch's tokens."""
    queries = [([*prompt, *branch.path], branch.tokens) for branch in branches]
    if isinstance(model, BranchModel):
        return model.of_tokens(queries)
    return [model(ids)[tokens] for ids, tokens in queries]


def _max_weight(branch: Branch, temperature: float) -> float:
    """The largest weight of a branch's labels when log-probabilities are divided by the temperature. Above 1 they weigh
    most if they share the branch's probability evenly, below 1 if one of them has all of it."""
    spread = max(0.0, (1 - 1 / temperature) * math.log(len(branch.node.labels)))
    return math.exp(branch.log_probability / temperature + spread)
