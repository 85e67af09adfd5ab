"""Runs an ONNX model with ONNX Runtime GenAI, without torch: one key-value cache, and a common prefix runs once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunewright.inference.runtimes.prefix import common_prefix


class OrtNextToken:
    """Next-token logits of an ONNX folder. The longest common prefix with the last call does not run again.

    Args:
        folder: the output of onnxruntime-genai's model builder.
        context: tokens that the key-value cache holds; it is allocated at once, in fp32.
        threads: CPU threads; all cores by default.
    """

    at_once = 1
    ended = False

    def __init__(self, folder: Path, *, context: int, threads: int | None = None):
        import onnxruntime_genai as og

        config = og.Config(str(folder))
        options = {"intra_op_num_threads": threads} if threads else {}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = og.Model(config)
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(do_sample=False, max_length=context)
        self._generator = og.Generator(self._model, parameters)
        self._ids: list[int] = []

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        # A single new token runs in another kernel, which rounds differently, and the same request would not always get
        # the same confidence. With two or more the logits don't depend on earlier calls.
        common = min(common_prefix(self._ids, ids), max(len(ids) - 2, 0))
        if common < len(self._ids):
            self._generator.rewind_to(common)
        self._generator.append_tokens(np.asarray(ids[common:], np.int32))
        self._ids = list(ids)
        return np.array(self._generator.get_logits()).reshape(-1)

    def of_tokens(self, queries: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[npt.NDArray[np.float32]]:
        """As in `tunewright.tasks.BranchModel`, one after the other."""
        return [self(ids)[tokens] for ids, tokens in queries]
