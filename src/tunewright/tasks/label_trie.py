"""Answering by scoring the labels: every answer is a label, and every label has a probability.

Each label is the token sequence the chat template would produce for it, end-of-turn token included, so that no label
is a prefix of another. The sequences form a trie. At a node with one child nothing is decided; at a branching node the
model's next-token distribution is restricted to the children and renormalised:

    log P(label) = sum over the branching nodes on its path of  log softmax(logits[children])[child taken]

The probabilities of all labels sum to one exactly. One forward pass is needed for each branching node, which for a
small label set is often the root alone. The same function serves torch and ONNX Runtime: a model is only a callable
from token ids to the logits of the next token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NextTokenModel = Callable[[Sequence[int]], npt.NDArray[np.float32]]
"""Token ids of the whole sequence so far -> logits of the next token, shape [vocabulary]."""


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

    def choices(self, sequence: Sequence[int]) -> list[list[int]]:
        """For each token of a label's sequence, the tokens it is chosen from: one where nothing is decided."""
        node, found = self.root, []
        for token in sequence:
            found.append(list(node.children))
            node = node.children[token]
        return found

    def branches(self) -> list[tuple[tuple[int, ...], _Node]]:
        """Every branching node with the tokens that lead to it, parents before children, depth first."""
        found: list[tuple[tuple[int, ...], _Node]] = []

        def visit(path: tuple[int, ...], node: _Node) -> None:
            if len(node.children) > 1:
                found.append((path, node))
            for token, child in node.children.items():
                if len(child.labels) > 1:
                    visit((*path, token), child)

        visit((), self.root)
        return found


def score_labels(trie: LabelTrie, model: NextTokenModel, prompt: Sequence[int]) -> Floats:
    """log P(label | prompt) of every label, shape [labels]; the probabilities sum to one."""
    scores = np.zeros(trie.size)
    for path, node in trie.branches():
        tokens = list(node.children)
        logits = model([*prompt, *path])[tokens].astype(np.float64)
        log_probs = logits - np.logaddexp.reduce(logits)
        for log_prob, child in zip(log_probs, node.children.values(), strict=True):
            scores[child.labels] += log_prob
    return scores
