"""From examples to token ids and labels, with the audit that training would learn exactly the answers."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.errors import UserError
from tunewright.models.chat import ChatTemplate, Tokenizer
from tunewright.tasks import Example, Task

IGNORED = -100
"""Label of a token that is not learnt from."""


def encode_examples(
    examples: Sequence[Example], task: Task, template: ChatTemplate, tokenizer: Tokenizer, max_length: int
) -> list[dict[str, list[int]]]:
    """`input_ids` and `labels` of each example; only the tokens of its last assistant turn carry labels.

    Raises:
        UserError: an example is longer than `max_length`, or would teach anything else than its answer.
    """
    rows, too_long = [], []
    for example in examples:
        conversation = task.conversation(example)
        encoded = template.encode(conversation, tokenizer)
        if len(encoded.ids) > max_length:
            too_long.append((len(encoded.ids), example))
            continue
        answer = template.encode_answer(conversation[:-1], example.answer, tokenizer)
        prompt = len(encoded.ids) - len(answer)
        if any(encoded.supervised[:prompt]):
            raise UserError(
                "The chat template would teach something else than the answer.",
                where=template.name,
                why=f"In example {example.meta.id} it marks parts of the prompt as the assistant's own.",
                fix="Put {% generation %} … {% endgeneration %} around the assistant's content and end token only.",
            )
        labels = [IGNORED] * prompt + answer
        rows.append({"input_ids": encoded.ids, "labels": labels})
    if too_long:
        longest, example = max(too_long, key=lambda pair: pair[0])
        raise UserError(
            f"{len(too_long)} of {len(examples)} examples are longer than train.max_length = {max_length} tokens.",
            where=example.meta.source,
            why=f"The longest has {longest}. Cutting them would teach cut answers, so they are refused.",
            fix=f"Type: tunewright run … train.max_length={longest}  (or shorten these inputs).",
        )
    return rows
