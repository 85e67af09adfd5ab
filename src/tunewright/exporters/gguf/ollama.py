"""The Modelfile with which Ollama serves a GGUF file: its template in Go's form, the system prompt, and stop texts.

Ollama does not know Jinja. Rendering the template shows the text that it writes around a system prompt, a question and
an answer. The contents of a Modelfile and the fields that Ollama fills in follow its parser/parser.go and
template/template.go (2026-11-27).
"""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import TemplateError

from tunewright.core.errors import UserError
from tunewright.exporters.other_engines import Asking
from tunewright.exporters.plain_template import render
from tunewright.tasks import Message

CANNOT_CONFINE = (
    "This model has learnt to choose between its labels (train.loss: labels), and Ollama can't confine its choice. "
    "For Ollama train with train.loss=tokens; or serve it with llama.cpp and answers.gbnf, or with tunewright serve."
)
_SYSTEM, _PROMPT, _RESPONSE = "\ue000", "\ue001", "\ue002"
"""Private-use characters that stand for the texts of a conversation."""
_OTHERWISE = "Serve the model by tunewright serve, vLLM or llama.cpp, which read the template as it is."
_QUOTES = '"""'


def modelfile(file: str, asking: Asking, end: str, tokens: Mapping[str, str], *, confined_only: bool = False) -> str:
    """A Modelfile.

    Args:
        file: name of the GGUF file beside it.
        end: the text of the token that ends a turn.
        tokens: the tokens that the template may use by name, such as `bos_token`.
        confined_only: whether the model answers only where its choice is confined, which Ollama can't do.

    Raises:
        UserError: a Modelfile can't hold the system prompt, the template or a stop text.
    """
    template = go_template(asking.template, tokens, has_system=bool(asking.system))
    stops, again = [end, *asking.stop], "Write it without them, and train again."
    texts = [("system prompt", asking.system, "task.instruction", again), ("chat template", template, None, _OTHERWISE)]
    texts += [("turn's end", end, None, _OTHERWISE), *(("stop text", each, "task.stop", again) for each in asking.stop)]
    for name, text, where, fix in texts:
        if _QUOTES in text:
            what = f"The {name} has three quotation marks in a row, which no Modelfile can hold."
            raise UserError(what, where=where, fix=fix)
    parameters = {
        "temperature": "0",
        "repeat_penalty": "1",
        "num_ctx": str(asking.context),
        "num_predict": str(asking.most),
    }
    return "\n".join(
        [
            *([f"# {CANNOT_CONFINE}"] if confined_only else []),
            f"FROM ./{file}",
            f"TEMPLATE {_QUOTES}{template}{_QUOTES}",
            *([f"SYSTEM {_QUOTES}{asking.system}{_QUOTES}"] if asking.system else []),
            *(f"PARAMETER {key} {value}" for key, value in parameters.items()),
            *(f"PARAMETER stop {_QUOTES}{stop}{_QUOTES}" for stop in stops),
            "",
        ]
    )


def go_template(source: str, tokens: Mapping[str, str], *, has_system: bool = True) -> str:
    """Ollama's template of one turn, from a chat template in plain form.

    Args:
        tokens: the tokens that the template may use by name, such as `bos_token`.
        has_system: whether the model was taught with a system prompt. One that was taught with an empty one gets that
            where Ollama has none, and not the prompt that some templates put in its place.

    Raises:
        UserError: the template refuses a system prompt or its absence, or writes text that Go would take for an action.
    """
    system, prompt, response = (
        Message(role=role, content=text)
        for role, text in (("system", _SYSTEM), ("user", _PROMPT), ("assistant", _RESPONSE))
    )
    bare = [prompt] if has_system else [Message(role="system", content=""), prompt]
    try:
        whole = render(source, [system, prompt], add_generation_prompt=True, tokens=tokens)
        alone = render(source, bare, add_generation_prompt=True, tokens=tokens)
        answered = render(source, [system, prompt, response], add_generation_prompt=False, tokens=tokens)
    except TemplateError as error:
        raise UserError(f"The chat template can't be written for Ollama: {error}.", fix=_OTHERWISE) from None
    before, _, rest = whole.partition(_SYSTEM)
    between, _, behind = rest.partition(_PROMPT)
    first = alone.partition(_PROMPT)[0]
    ended = answered.partition(_RESPONSE)[2]
    if "{{" in before + between + behind + first + ended:
        raise UserError("The chat template writes {{, which Ollama takes for its own syntax.", fix=_OTHERWISE)
    return (
        f"{{{{ if .System }}}}{before}{{{{ .System }}}}{between}{{{{ else }}}}{first}{{{{ end }}}}"
        f"{{{{ .Prompt }}}}{behind}{{{{ .Response }}}}{ended}"
    )
