"""`classify`: one label of a fixed set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from string import ascii_uppercase

from tunewright.config.sections import LeaveOut
from tunewright.core.errors import UserError
from tunewright.tasks.base import OneOf, Unfit
from tunewright.tasks.example import WRITTEN_OUT, Conversation
from tunewright.tasks.leaving_out import without
from tunewright.tasks.measures import Ratio


class ClassifyTask(Conversation):
    """Choose one label.

    Args:
        instruction: the system prompt; `{labels}` in it stands for the label list.
        labels: each label with a one-line description (may be empty).
        lead: the text that the assistant writes before a label; see `fitted`.
        label_tokens: the single token that stands for each label; empty if labels are written out.
        single_token_labels: whether `fitted` chooses such tokens.
        leave_out: what of the instruction the model is not shown.
    """

    kind = "classify"
    primary_metric = "accuracy"

    def __init__(
        self,
        instruction: str,
        labels: Mapping[str, str],
        lead: str = "",
        label_tokens: Mapping[str, str] = WRITTEN_OUT,
        *,
        single_token_labels: bool = False,
        leave_out: LeaveOut = "nothing",
    ):
        self.instruction, self.labels, self.single_token_labels = instruction, dict(labels), single_token_labels
        self._leave_out: LeaveOut = leave_out
        bare = listed((label_tokens.get(label, label), label) for label in labels)
        listing = listed((label_tokens.get(label, label), label, text) for label, text in labels.items())
        system = without(leave_out, instruction, "{labels}", listing, bare)
        super().__init__(system, lead, label_tokens)
        self._of_token = {token: label for label, token in label_tokens.items()}

    def fitted(self, encode: Callable[[str], Sequence[int]]) -> ClassifyTask:
        """This task with labels as the model knows them: after a space if that takes fewer tokens.

        Most byte-level vocabularies hold a word with the space before it (" refund" is one token of SmolLM2, "refund"
        is "ref" + "und"), and a model's knowledge of a word depends on that token.

        Args:
            encode: text -> its token ids.

        Raises:
            UserError: each label must be one token, and the tokenizer has too few words.
        """

        def tokens(lead: str) -> int:
            return sum(len(encode(lead + label)) for label in self.labels)

        lead = min("", " ", key=tokens)
        label_tokens = (
            _single_tokens(list(self.labels), lambda word: len(encode(lead + word)) == 1)
            if self.single_token_labels
            else WRITTEN_OUT
        )
        task = ClassifyTask(
            self.instruction,
            self.labels,
            lead,
            label_tokens,
            single_token_labels=self.single_token_labels,
            leave_out=self._leave_out,
        )
        return task.surrounded(self._template, shown=self._shows_template)

    def untaught(self) -> ClassifyTask:
        return ClassifyTask(self.instruction, self.labels, self.lead).surrounded(self._template, shown=True)

    @property
    def constraint(self) -> OneOf:
        return OneOf(tuple(self.labels))

    @property
    def summary(self) -> str:
        return f"{len(self.labels)} labels"

    def claim(self, share: str) -> str:
        return f"is right on {share}"

    @property
    def answers(self) -> list[str]:
        return list(self.labels)

    def canonical(self, answer: str) -> str:
        text = answer.removeprefix(self.lead)
        label = self._of_token.get(text, text)
        if label not in self.labels:
            raise Unfit(f"'{text}' is none of the labels")
        return label

    def measures(self, request: str, gold: str, answer: str) -> dict[str, Ratio]:  # noqa: ARG002 (the protocol)
        return {"accuracy": Ratio(float(gold == answer), 1)}


def listed(labels: Iterable[Sequence[str]]) -> str:
    """The label list of a prompt, one line a label.

    Args:
        labels: for each label: the text that the model writes, the label, its description.
    """
    return "\n".join(f"- {': '.join(dict.fromkeys(part for part in parts if part))}" for parts in labels)


def _single_tokens(labels: Sequence[str], is_token: Callable[[str], bool]) -> dict[str, str]:
    """Choose a word of one token for each label: the label itself, its word that the fewest labels share, or one or two
    letters.

    Args:
        is_token: whether a word is one token.

    Raises:
        UserError: the tokenizer has too few such words.
    """
    words = {label: [word for word in re.findall(r"[^\W_]+", label) if is_token(word)] for label in labels}
    shared = Counter(word for each in words.values() for word in set(each))
    taken = {label: label for label in labels if is_token(label)}
    used = set(taken.values())
    letters = ("".join(each) for size in (1, 2) for each in product(ascii_uppercase, repeat=size))
    spare = filter(is_token, letters)
    # Labels with the fewest words choose first.
    for label in sorted(words, key=lambda label: len(words[label])):
        if label in taken:
            continue
        own = [word for word in sorted(words[label], key=lambda word: shared[word]) if word not in used]
        token = own[0] if own else next((word for word in spare if word not in used), None)
        if token is None:
            raise UserError(
                f"The tokenizer has no {len(labels)} words of one token for the labels.",
                where="task.single_token_labels",
                fix="Remove task.single_token_labels; labels are then written out.",
            )
        taken[label] = token
        used.add(token)
    return {label: taken[label] for label in labels}
