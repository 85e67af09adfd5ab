"""How many conversations become the very tokens that their model was instructed with.

    pip install --no-deps --target peers mistral-common tiktoken sentencepiece pydantic-extra-types pycountry \\
        jsonschema llama-models==0.3.0 dashscope==1.20.0
    python bench/templates.py peers

The vocabularies are those that the packages carry (Llama 3's, Qwen's, Mistral's), SmolLM2's own, and for Phi-3, whose
vocabulary no package carries, Mistral's with Phi-3's settings: a space before each text, line breaks swallowed behind
control tokens. The right tokens are transformers' of the whole text that the model's own template writes (as TRL keeps
it), and for Mistral those of mistral-common. `piece by piece` is how Tunewright encoded until 2026-11-27.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import resolve_tokenizer
from tunewright.models.template_choice import writes
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Message

Truth = Callable[[Sequence[Message], TextTokenizer], list[int]]
TICKETS = Path(__file__).parents[1] / "examples" / "tickets"
AWKWARD = [
    "  two spaces first",
    "a line break last\n\n",
    "\none first",
    "a\n\n\nb",
    "é 🚀",
    "12345 6",
    "x<|im_end|>y [/INST] z </s>",
]
SYSTEM = Message(role="system", content="Route the ticket.\n\nLabels:\n- billing\n- delivery")
ANSWER = Message(role="assistant", content="refund")
SHOT = [Message(role="user", content="Where is it?"), Message(role="assistant", content="delivery")]
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def texts() -> list[str]:
    rows = map(json.loads, (TICKETS / "data" / "train.jsonl").read_text("utf-8").splitlines())
    return [row["text"] for row in rows][:160] + AWKWARD


def byte_level(file: Path, numbers: str, control: Sequence[str], folder: Path) -> TextTokenizer:
    """A tokenizer of a tiktoken file."""
    from tokenizers import AddedToken
    from transformers.convert_slow_tokenizer import TikTokenConverter

    tokenizer = TikTokenConverter(str(file), pattern=_CONTRACTIONS + numbers + _REST).converted()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return saved(tokenizer, folder)


def sentence_piece(file: Path, folder: Path, *, phi: bool) -> TextTokenizer:
    """A tokenizer of a SentencePiece file, as Mistral's, or with Phi-3's settings."""
    from sentencepiece import SentencePieceProcessor
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

    pieces = SentencePieceProcessor(model_file=str(file))
    vocabulary = {pieces.id_to_piece(number): number for number in range(pieces.vocab_size())}
    merges = sorted(
        (number, vocabulary[piece[:cut]], vocabulary[piece[cut:]], piece[:cut], piece[cut:])
        for piece, number in vocabulary.items()
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    )
    tokenizer = Tokenizer(
        models.BPE(vocabulary, [merge[3:] for merge in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    if phi:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    control = [piece for piece, number in vocabulary.items() if pieces.is_control(number)]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    swallowing = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"] if phi else []
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True, rstrip=True) for t in swallowing])
    return saved(tokenizer, folder)


def saved(tokenizer: Any, folder: Path) -> TextTokenizer:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return TextTokenizer(folder)


def whole_text(source: str, tokens: dict[str, str]) -> Truth:
    return lambda messages, tokenizer: tokenizer.encode_text(writes(source, messages, tokens))


def of_mistral(library: Any) -> Truth:
    from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    kinds = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}

    def truth(messages: Sequence[Message], _: TextTokenizer) -> list[int]:
        made = [kinds[message.role](content=message.content) for message in messages]
        asked = made[:-1] if messages[-1].role == "assistant" else made
        ids = list(library.encode_chat_completion(ChatCompletionRequest(messages=asked)).tokens)
        return ids + library.instruct_tokenizer.encode_assistant_message(made[-1], False) if asked != made else ids

    return truth


def cases(peers: Path, scratch: Path) -> Iterator[tuple[str, str, TextTokenizer, Truth]]:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

    (trl,) = find_spec("trl").submodule_search_locations

    def own(name: str, **tokens: str) -> Truth:
        return whole_text((Path(trl) / "chat_templates" / f"{name}.jinja").read_text("utf-8"), tokens)

    smol, _ = resolve_tokenizer("smollm2-135m", Path())
    yield "SmolLM2", "chatml", TextTokenizer(smol), whole_text((smol / "chat_template.jinja").read_text("utf-8"), {})
    qwen = byte_level(
        peers / "dashscope" / "resources" / "qwen.tiktoken",
        r"\p{N}",
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        scratch / "qwen",
    )
    yield "Qwen 2.5", "chatml", qwen, own("qwen2_5")
    yield "Qwen 3", "qwen3", qwen, own("qwen3")
    llama = byte_level(
        peers / "llama_models" / "llama3" / "tokenizer.model",
        r"\p{N}{1,3}",
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        scratch / "llama",
    )
    yield "Llama 3", "llama3", llama, own("llama3", bos_token="<|begin_of_text|>")
    yield "Llama 3.1, 3.2", "llama3.1", llama, own("llama3_2", bos_token="<|begin_of_text|>")
    data = peers / "mistral_common" / "data"
    spm = data / "mistral_instruct_tokenizer_240323.model.v3"
    yield "Phi-3", "phi3", sentence_piece(spm, scratch / "phi", phi=True), own("phi3", eos_token="<|endoftext|>")
    yield (
        "Mistral 7B",
        "mistral",
        sentence_piece(spm, scratch / "mistral", phi=False),
        of_mistral(MistralTokenizer.v3()),
    )
    tekken = convert_tekken_tokenizer(str(data / "tekken_240911.json"))
    tokenizer = saved(getattr(tekken, "_tokenizer", tekken), scratch / "tekken")
    yield "Nemo, Ministral 8B", "mistral-tekken", tokenizer, of_mistral(MistralTokenizer.v3(is_tekken=True))


def piece_by_piece(template: ChatTemplate, messages: Sequence[Message], tokenizer: TextTokenizer) -> list[int]:
    encode = {True: tokenizer.encode_verbatim, False: tokenizer.encode_text}
    spans = template.spans(messages, add_generation_prompt=True)
    return [token for span in spans for token in encode[span.verbatim](span.text)]


def main() -> None:
    peers = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(peers))
    asked = texts()
    print(f"Of {len(asked)} conversations of each kind: prompts now, piece by piece; with their answer, now.")
    with tempfile.TemporaryDirectory() as scratch:
        for name, family, tokenizer, truth in cases(peers, Path(scratch)):
            template = ChatTemplate.named(family)
            for kind, before in (("system", [SYSTEM]), ("none", []), ("shots", [SYSTEM, *SHOT])):
                now = pieces = answers = 0
                for text in asked:
                    talk = [*before, Message(role="user", content=text)]
                    right, whole = truth(talk, tokenizer), truth([*talk, ANSWER], tokenizer)
                    now += template.encode_prompt(talk, tokenizer) == right
                    pieces += piece_by_piece(template, talk, tokenizer) == right
                    ids = template.encode([*talk, ANSWER], tokenizer).ids
                    answers += whole[: len(ids)] == ids
                print(f"{name:20}{family:16}{kind:8}{now:6}{pieces:6}{answers:6}", flush=True)


if __name__ == "__main__":
    main()
