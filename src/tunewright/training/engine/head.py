"""The loss head, computed only where it is needed.

The vocabulary is the widest layer of a small model. It is projected only at positions that predict a labelled token,
and only onto the tokens in question: the whole vocabulary, or only the `choices` if rows have them, as in serving. With
choices the sum over an answer is -log P(label) of `tunewright.tasks.score_labels`, and the model spends nothing on
learning what the trie already rules out.
"""

from __future__ import annotations

import functools
import types
from typing import Any

from tunewright.inference.runtimes.products import exact, float32_product, without_autocast
from tunewright.training.engine.packing import NO_CHOICE
from tunewright.training.loop.encode import IGNORED

_LOGITS, _LOGITS_ON_CPU = 2**25, 2**23
"""Most logits held at once. A processor is no faster with more."""
_RAISED = 2**10
"""Factor for probabilities while they are float16, which has no number below 6e-8: with a wide vocabulary most
probabilities are smaller."""


def add_supervision(model: Any) -> None:
    """Give a transformers causal model two more ways to be called; other calls do not change.

    `model(**batch, supervised=labels, choices=None)` returns an output whose `loss` is the *sum* of the labelled
    tokens' cross-entropies, or all of them in the batch's order with `each`; `labels` and `choices` are as in
    `tunewright.training.engine.packing.pack`. `model(**batch, positions=mask, offered=tokens)` returns an output whose
    `logits` are those of the offered tokens at the marked positions, [positions, tokens]; `mask` is a bool tensor like
    `input_ids`.

    Both run inside the model's forward, so wrappers (DDP, FSDP, peft) see one call. While `model.fused_head` is false,
    the model's own logits of all positions are used.
    """
    from transformers.modeling_outputs import CausalLMOutput

    original = model.forward
    model.fused_head = False

    # generate() reads the signature
    @functools.wraps(type(model).forward)
    def forward(
        self: Any,
        *args: Any,
        supervised: Any = None,
        choices: Any = None,
        positions: Any = None,
        offered: Any = None,
        each: bool = False,
        **kwargs: Any,
    ) -> Any:
        if supervised is None and positions is None:
            return original(*args, **kwargs)
        places = positions if supervised is None else supervised != IGNORED
        if not self.fused_head:
            logits = original(*args, **kwargs, use_cache=False).logits[places]
            if supervised is None:
                return CausalLMOutput(logits=logits.index_select(1, offered))
            losses = _losses_of(logits.float(), supervised[places], choices)
            return CausalLMOutput(loss=losses if each else losses.sum())
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state[places]
        # The head is looked up at each call: wrappers may have replaced it.
        weight, cap = self.get_output_embeddings().weight, softcap(self.config)
        if supervised is None:
            return CausalLMOutput(logits=_logits(hidden, weight, offered, cap))
        losses = _fused_losses(hidden, weight, supervised[places], choices, cap)
        return CausalLMOutput(loss=losses if each else losses.sum())

    model.forward = types.MethodType(forward, model)


def softcap(config: Any) -> float:
    """The cap c of logits y, which become c tanh(y / c), as in Gemma 2 and 4; 0 if they are not capped."""
    return float(getattr(config, "final_logit_softcapping", None) or 0)


def is_linear(head: Any) -> bool:
    """Whether a head is a plain, frozen matrix."""
    from torch import nn

    return type(head) is nn.Linear and head.bias is None and not head.weight.requires_grad


def _losses_of(logits: Any, targets: Any, choices: Any) -> Any:
    """Cross-entropy of each row of logits [tokens, vocabulary], float32."""
    from torch.nn.functional import cross_entropy

    if choices is not None:
        logits = logits.gather(1, choices.clamp(min=0)).masked_fill(choices == NO_CHOICE, float("-inf"))
        targets = (choices == targets[:, None]).int().argmax(1)
    return cross_entropy(logits, targets, reduction="none")


def _fused_losses(hidden: Any, weight: Any, targets: Any, choices: Any, cap: float) -> Any:
    """Cross-entropy of each of `hidden` [tokens, width] under a head [vocabulary, width]."""
    import torch

    if choices is None:
        with without_autocast(hidden):
            return _vocabulary_loss().apply(hidden, weight, targets, cap)
    offered, place = torch.unique(choices.clamp(min=0), return_inverse=True)
    among = torch.where(choices == NO_CHOICE, NO_CHOICE, place)
    target = place.gather(1, (choices == targets[:, None]).int().argmax(1, keepdim=True))[:, 0]
    return _losses_of(_logits(hidden, weight, offered, cap), target, among)


def _logits(hidden: Any, weight: Any, offered: Any, cap: float) -> Any:
    """Logits of a few tokens, [positions, offered], in float32. In 16 bits, logits near 20 would be rounded to
    eighths, which is more than the difference between likely labels. Autocast, which float16 training runs under,
    would make them 16 bits."""
    with without_autocast(hidden):
        logits = exact(hidden) @ exact(weight.index_select(0, offered)).t()
        return cap * (logits / cap).tanh() if cap else logits


@functools.cache
def _vocabulary_loss() -> Any:
    import torch

    class VocabularyLoss(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
        """Cross-entropy over the whole vocabulary, a slice of tokens at a time. The forward pass also computes the
        gradient of the hidden states, so no logits are kept."""

        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, cap: float) -> Any:
            losses = hidden.new_empty(len(targets), dtype=torch.float32)
            needed = ctx.needs_input_grad[0]
            gradient = hidden.new_empty(hidden.shape if needed else 0, dtype=torch.float32)
            most = _LOGITS_ON_CPU if hidden.device.type == "cpu" else _LOGITS
            step = max(1, most // weight.shape[0])
            for start in range(0, len(targets), step):
                part = slice(start, start + step)
                logits = float32_product(hidden[part].to(weight.dtype), weight.t())
                if cap:
                    logits.div_(cap).tanh_()
                    slope = 1 - logits.square() if needed else None
                    logits.mul_(cap)
                highest, aimed = logits.amax(1, keepdim=True), logits.gather(1, targets[part, None])
                total = logits.sub_(highest).exp_().sum(1, keepdim=True)
                losses[part] = (total.log() + highest - aimed)[:, 0]
                if needed:
                    # softmax - one-hot, in place
                    logits.div_(total)
                    logits.scatter_add_(1, targets[part, None], logits.new_full((len(logits), 1), -1))
                    if cap:
                        logits.mul_(slope)
                    if weight.dtype == torch.float16:
                        gradient[part] = float32_product(logits.mul_(_RAISED).to(weight.dtype), weight) / _RAISED
                    else:
                        gradient[part] = float32_product(logits.to(weight.dtype), weight)
            ctx.save_for_backward(gradient)
            ctx.type = hidden.dtype
            return losses

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> tuple[Any, None, None, None]:
            (gradient,) = ctx.saved_tensors
            return (gradient * upstream[:, None]).to(ctx.type), None, None, None

    return VocabularyLoss
