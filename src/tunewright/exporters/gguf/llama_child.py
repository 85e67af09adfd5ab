"""Runs in a Python that has llama-cpp-python and need not have Tunewright; see `tunewright.exporters.gguf.llama`."""

from __future__ import annotations

import json
import sys
from typing import Any

_ERROR = 4
"""ggml's level of a message that says why something failed."""


def _errors() -> tuple[list[str], Any]:
    """(llama.cpp's errors as they come, what must be kept so that they do).

    While llama-cpp-python loads a model it sends standard error nowhere, so they are told afterwards.
    """
    import llama_cpp

    told: list[str] = []

    def tell(level: int, text: bytes, _: Any) -> None:
        if level == _ERROR:
            told.append(text.decode(errors="replace"))

    callback = llama_cpp.llama_log_callback(tell)
    llama_cpp.llama_log_set(callback, None)
    return told, callback


def quantise(source: str, target: str) -> None:
    import llama_cpp

    told, kept = _errors()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), settings):
        sys.exit("".join(told))
    del kept


def answer(file: str, context: str, threads: str) -> None:
    """A line of JSON in, a line of JSON out, until standard input ends."""
    from llama_cpp import Llama, LlamaGrammar
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    told, kept = _errors()
    try:
        model = Llama(file, n_ctx=int(context), n_threads=int(threads), n_threads_batch=int(threads), verbose=False)
    except ValueError:
        sys.exit("".join(told))

    def text_of(token: int) -> str:
        return model._model.token_get_text(token) if token >= 0 else ""

    formatter = Jinja2ChatFormatter(
        template=model.metadata["tokenizer.chat_template"],
        eos_token=text_of(model.token_eos()),
        bos_token=text_of(model.token_bos()),
    )
    for line in sys.stdin:
        asked = json.loads(line)
        prompt = formatter(messages=asked["messages"]).prompt
        grammar = LlamaGrammar.from_string(asked["grammar"], verbose=False) if asked["grammar"] else None
        said: Any = model.create_chat_completion(
            asked["messages"], temperature=0.0, max_tokens=asked["most"], grammar=grammar
        )
        ids = model.tokenize(prompt.encode(), add_bos=True, special=True)
        reply = {"text": said["choices"][0]["message"]["content"], "prompt": ids}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
    del kept


if __name__ == "__main__":
    if sys.argv[1] == "quantise":
        quantise(*sys.argv[2:])
    else:
        answer(*sys.argv[2:])
