"""Keeps in a bundle what its model remembers of the prompt that all requests begin with."""

from __future__ import annotations

from tunewright.inference.bundle import Bundle
from tunewright.inference.runtimes.base import FOLDERS, Runtime
from tunewright.inference.runtimes.prefix import common_prefix


def save_kept_prompt(bundle: Bundle, model: Runtime) -> None:
    """Write the kept prompt of a bundle that our own kernels run; for others there is none.

    Args:
        model: its loaded weights. They run the prompt, unless they have it in memory.
    """
    if bundle.info.runtime != "openvino":
        return
    from tunewright.inference.runtimes.openvino.model import PagedNextToken
    from tunewright.inference.runtimes.openvino.shape import KEPT_PROMPT

    assert isinstance(model, PagedNextToken)
    (one, *_), (other, *_) = map(bundle.language_model(model).prompts, ("a", "b"))
    if kept := model.kept_prompt(one[: common_prefix(one, other)]):
        kept.save(bundle.folder / FOLDERS["openvino"] / KEPT_PROMPT)
