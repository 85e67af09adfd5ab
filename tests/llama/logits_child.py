"""Runs in llama.cpp's Python: next-token logits of sequences of token ids, all as JSON on standard input and output."""

from __future__ import annotations

import json
import sys


def main() -> None:
    import llama_cpp

    asked = json.load(sys.stdin)
    model = llama_cpp.Llama(
        asked["file"],
        n_ctx=512,
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
    )
    found = []
    for ids in asked["sequences"]:
        model.reset()
        model.eval(ids)
        found.append(model.scores[len(ids) - 1].tolist())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
