"""Runs in a Python that has llama-cpp-python and need not have Tunewright; see `tunewright.exporters.gguf.llama`."""

from __future__ import annotations

import json
import sys
from typing import Any

_ERROR = 4
"""ggml's level of error messages."""


def _errors() -> tuple[list[str], Any]:
    """(a list that collects llama.cpp's errors, the callback, which must be kept alive for that).

    While llama-cpp-python loads a model it discards standard error, so the errors are printed afterwards.
    """
    import llama_cpp

    errors: list[str] = []

    def collect(level: int, text: bytes, _: Any) -> None:
        if level == _ERROR:
            errors.append(text.decode(errors="replace"))

    callback = llama_cpp.llama_log_callback(collect)
    llama_cpp.llama_log_set(callback, None)
    return errors, callback


def quantise(source: str, target: str) -> None:
    import llama_cpp

    errors, kept = _errors()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), settings):
        sys.exit("".join(errors))
    del kept


def answer(file: str, context: str, threads: str) -> None:
    """Answer each JSON line of standard input by a JSON line, until standard input ends."""
    from llama_cpp import Llama, LlamaGrammar
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    errors, kept = _errors()
    try:
        model = Llama(file, n_ctx=int(context), n_threads=int(threads), n_threads_batch=int(threads), verbose=False)
    except ValueError:
        sys.exit("".join(errors))

    def text_of(token: int) -> str:
        return model._model.token_get_text(token) if token >= 0 else ""

    formatter = Jinja2ChatFormatter(
        template=model.metadata["tokenizer.chat_template"],
        eos_token=text_of(model.token_eos()),
        bos_token=text_of(model.token_bos()),
    )
    for line in sys.stdin:
        request = json.loads(line)
        prompt = formatter(messages=request["messages"]).prompt
        grammar = LlamaGrammar.from_string(request["grammar"], verbose=False) if request["grammar"] else None
        completion: Any = model.create_chat_completion(
            request["messages"], temperature=0.0, max_tokens=request["most"], grammar=grammar
        )
        ids = model.tokenize(prompt.encode(), add_bos=True, special=True)
        reply = {"text": completion["choices"][0]["message"]["content"], "prompt": ids}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
    del kept


if __name__ == "__main__":
    if sys.argv[1] == "quantise":
        quantise(*sys.argv[2:])
    else:
        answer(*sys.argv[2:])
