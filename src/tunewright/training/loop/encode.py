"""Encodes examples as token ids and labels, and audits that training learns exactly the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright.core.errors import UserError
from tunewright.models.chat import ChatTemplate, Tokenizer, answer_tokens
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, LabelTrie, Task

IGNORED = -100
"""Label of a token that is not learnt."""

Row = dict[str, Any]
"""`input_ids` and `labels`, lists of the same length. With the loss "labels" also `choices`: for each labelled
token, in order, the tokens it is chosen from. `weight`, by which its losses are multiplied, if it is not 1."""


def weight_of(example: Example) -> Row:
    """The `weight` of an example's row; empty if it counts once."""
    return {} if example.importance == 1 else {"weight": example.importance}


def weight_in(row: Row) -> float:
    """The weight of a row. Rows of a table have None where they have no weight."""
    weight = row.get("weight")
    return 1.0 if weight is None else float(weight)


def weights_of(rows: Sequence[Row]) -> list[float] | None:
    """The weight of each row; None: all count once."""
    weights = [weight_in(row) for row in rows]
    return None if all(weight == 1 for weight in weights) else weights


def encode_examples(
    examples: Sequence[Example],
    task: Task,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    max_length: int,
    loss: str = "tokens",
) -> list[Row]:
    """Encode each example as one row; only tokens of its last assistant turn carry labels.

    Args:
        loss: "tokens": learn every token of the answer, out of the whole vocabulary. "labels": learn only the tokens
            that decide between answers, each out of the tokens that the label trie allows there.

    Raises:
        UserError: an example is longer than `max_length`, or would teach something other than its answer.
    """
    known = answer_tokens(task, template, tokenizer) if loss == "labels" else {}
    trie = LabelTrie(list(known.values())) if known else None
    rows: list[Row] = []
    too_long = []
    for example in examples:
        prompt, written = task.prompt(example.request), task.written(example.answer)
        encoded = template.encode([*prompt, written], tokenizer)
        if len(encoded.ids) > max_length:
            too_long.append((len(encoded.ids), example))
            continue
        answer = template.encode_answer(prompt, written, tokenizer)
        ignored = len(encoded.ids) - len(answer)
        if any(encoded.supervised[:ignored]):
            raise UserError(
                "The chat template would teach something else than the answer.",
                where=template.name,
                why=f"In example {example.meta.id} it marks parts of the prompt as the assistant's.",
                fix="Put {% generation %} … {% endgeneration %} around the assistant's content and end token only.",
            )
        row: Row = {"input_ids": encoded.ids, "labels": [IGNORED] * ignored + answer}
        rows.append((_only_decisions(row, answer, trie) if trie else row) | weight_of(example))
    if too_long:
        longest, example = max(too_long, key=lambda pair: pair[0])
        raise UserError(
            f"{len(too_long)} of {len(examples)} examples are longer than train.max_length = {max_length} tokens.",
            where=example.meta.source,
            why=f"The longest has {longest}. Cut examples would teach the model cut answers.",
            fix=f"Type: tunewright run … train.max_length={longest}  (or shorten these inputs).",
        )
    return rows


def _only_decisions(row: Row, answer: list[int], trie: LabelTrie) -> Row:
    """The row with labels only where the trie branches, and the choices there."""
    choices = trie.choices(answer)
    decided = [token if len(offered) > 1 else IGNORED for token, offered in zip(answer, choices, strict=True)]
    return {
        "input_ids": row["input_ids"],
        "labels": row["labels"][: -len(answer)] + decided,
        "choices": [offered for offered in choices if len(offered) > 1],
    }


_CONTEXT = 24
"""Tokens that the audit shows before the first labelled one."""


def shown(rows: Sequence[Row], tokenizer: TextTokenizer) -> list[str]:
    """The audit's lines: the number of learnt tokens, and one example with its learnt tokens in ⟦ ⟧."""
    row = rows[0]
    ids, labels = row["input_ids"], row["labels"]
    first = next(place for place, label in enumerate(labels) if label != IGNORED)
    start = max(0, first - _CONTEXT)
    pieces = ["…"] if start else []
    run: list[int] = []
    for place in range(start, len(ids) + 1):
        ends = place == len(ids) or (run and (labels[place] == IGNORED) != (labels[place - 1] == IGNORED))
        if ends:
            text = tokenizer.decode(run)
            pieces.append(text if labels[place - 1] == IGNORED else f"⟦{text}⟧")
            run = []
        if place < len(ids):
            run.append(ids[place])
    learnt = sum(label != IGNORED for each in rows for label in each["labels"])
    total = sum(len(each["input_ids"]) for each in rows)
    among = ", each among the tokens that the labels allow there" if "choices" in row else ""
    return [
        f"{len(rows)} examples, {total:,} tokens, {learnt:,} of them learnt{among}; the first one:",
        "".join(pieces).replace("\n", "↵"),
    ]
