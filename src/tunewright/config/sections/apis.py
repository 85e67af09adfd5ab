"""The APIs of others: those that the model is compared with, that label, and that judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tunewright.config.sections.common import HIDDEN, Secret, Section, SplitName

USUAL = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "google": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
}
"""The OpenAI-compatible endpoint of each vendor, and the usual variable of its key, by the vendor's name in the price
book.

Sources: ai.google.dev/gemini-api/docs/openai, platform.claude.com/docs/en/api/openai-sdk, docs.mistral.ai/api,
developers.openai.com/api (2026-11-28).
"""


ENTRA = "entra"
"""Sign in through Entra ID, in place of a key's environment variable."""
ENTRA_SCOPE = "https://cognitiveservices.azure.com/.default"
"""What a token for Azure OpenAI is asked for."""


def endpoint(url: str) -> str:
    """The address of an OpenAI-compatible endpoint, which a vendor's name may stand for."""
    if url in USUAL:
        return USUAL[url][0]
    if not re.fullmatch(r"https?://[^\s@?#]+", url):
        raise ValueError("an endpoint is an http(s) address without user, password or query; `key` names its key")
    return url.rstrip("/")


OWN_CANDIDATES = (
    *("majority", "usual", "svm", "nearest", "patterns", "few_shot"),
    *("adapter", "encoder", "linear", "merged", "exported", "served", "batch"),
)
"""What the verdict calls a run's own candidates and the batch API; no other API may be called so."""
Endpoint = Annotated[str, AfterValidator(endpoint), HIDDEN]
Effort = Annotated[str, Field(pattern=r"^[a-z]{1,20}$")] | None


class ApiSpec(Section):
    name: SplitName | None = None
    """The API's name in reports, which is not that of a candidate of your own, such as served or svm. By default its \
model, with the reasoning effort if the spec sets one."""
    model: str = "gpt-4o"
    """The model, by its name in the price book (`tunewright models prices`)."""
    prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens in the prompt that you send to the API, ticket included. By default the length of the tuned model's \
own, shorter prompt."""
    completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens in one answer, if the API writes more than the bare answer."""
    url: Endpoint | None = None
    """An OpenAI-compatible endpoint that answers the test examples, for money: openai, anthropic, google or mistral \
for the vendor's own, or an address such as https://NAME.openai.azure.com/openai/v1. By default no API is \
called."""
    protocol: Literal["chat-completions", "responses"] = "chat-completions"
    """Which of OpenAI's APIs the endpoint speaks."""
    key: Secret = "OPENAI_API_KEY"
    """The environment variable that holds the key, never the key itself. null: the endpoint needs no key. entra: \
sign in through Entra ID. By default the usual variable of the vendor that `url` names."""
    deployment: str | None = None
    """The model's name at the endpoint, if it differs from the name in the price book."""
    prompt: str | None = None
    """The system prompt that you send; {labels} and {fields} in it are replaced. By default the task's instruction \
with a list of the possible answers."""
    shots: Annotated[int, Field(ge=0)] = 0
    """Solved training examples in the prompt before each request."""
    reasoning_effort: Effort = None
    """The reasoning effort to request, such as none, low or high. By default the API's own default."""
    structured: bool = True
    """Confine the answers to the labels or the record's schema (response_format), if the endpoint can."""
    recorded: Path | None = None
    """A file of the API's answers to the test inputs: stored completions, or text and answer in the columns that \
`data` names. The API is then not called."""

    @model_validator(mode="after")
    def _one_source(self) -> ApiSpec:
        if self.url and self.recorded:
            raise ValueError("url calls the API, recorded reads its earlier answers: set one of them")
        if "key" not in self.model_fields_set:
            self.key = next((key for url, key in USUAL.values() if url == self.url), self.key)
        return self

    @model_validator(mode="after")
    def _has_a_name_of_its_own(self) -> ApiSpec:
        if self.label in OWN_CANDIDATES:
            raise ValueError(
                f"an API can't be called '{self.label}', as a candidate of your own is: give it another `name`"
            )
        return self

    @property
    def measured(self) -> bool:
        """Whether the API's answers to the test examples exist or can be requested."""
        return bool(self.url or self.recorded)

    @property
    def label(self) -> str:
        """The API's name in reports and files."""
        model = re.sub(r"[^A-Za-z0-9_.-]", "-", self.model)
        return self.name or (f"{model}-{self.reasoning_effort}" if self.reasoning_effort else model)


class BaselineSpec(Section):
    sample: Annotated[int, Field(ge=1)] | None = None
    """The most examples of each test split that the APIs answer, evenly spaced. By default all of them."""
    budget_usd: Annotated[float, Field(ge=0)] = 5.0
    """The most that the answers of all APIs may cost together, in USD at the price book's prices. The step stops \
before it exceeds the budget."""


class TeacherSpec(Section):
    api: str
    """The name of an API of the spec that has an endpoint."""
    samples: Annotated[int, Field(ge=1, le=20)] = 1
    """How often it is asked about each request. Several answers tell how sure it is."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """The temperature of its answers, if it gives several; one alone is asked for at 0."""


class LabelSpec(Section):
    requests: Path
    """The requests without answers: rows with the column `data.text`, or with `messages`."""
    teachers: tuple[TeacherSpec, ...] = ()
    """The APIs that answer them. By default every API of the spec that has an endpoint, once."""
    budget_usd: Annotated[float, Field(ge=0)] = 5.0
    """The most that the answers of all teachers may cost together, in USD at the price book's prices."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """The most requests that the teachers answer beside the sample; those that teach most come first. By default \
all of them."""
    people: Annotated[int, Field(ge=0)] = 200
    """Requests of the random sample that people answer: the test set, which also says how good the teachers are."""
    two_people: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The share of the sample that two people answer, so that their agreement is known."""
    least_agreement: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Labels on which the teachers agree less than this are left out, and people are asked."""
    pseudonymise: bool = True
    """Whether teachers read stand-ins for the personal data that are found in a request. The answers get the values \
back."""


class JudgeSpec(Section):
    model: str
    """The judging model, by its name at the endpoint."""
    rubric: str = "It does what was asked, is right in every detail, and says nothing that is not needed."
    """The criteria that make an answer good, and one better than another."""
    url: Endpoint = "https://api.openai.com/v1"
    """An OpenAI-compatible endpoint; for Azure OpenAI https://NAME.openai.azure.com/openai/v1."""
    key: Secret = "OPENAI_API_KEY"
    """The environment variable that holds the key, never the key itself. null: the endpoint needs no key. entra: \
sign in through Entra ID."""
    sample: Annotated[int, Field(ge=1)] = 100
    """Examples of each test split that the judge compares, each with two questions."""
    human: Path | None = None
    """A JSON Lines file of pairs that people have judged: text, first, second, and better (first, second or tie)."""
    reasoning_effort: Effort = None
    """The reasoning effort to request, such as none, low or high. By default the model's own default."""
    least_mark: Annotated[int, Field(ge=2, le=5)] = 3
    """`tunewright data judge` leaves out the training rows whose answers the judge gives a mark below this one, of 1 \
(useless) to 5 (without a fault)."""
    human_marks: Path | None = None
    """A JSON Lines file of answers that people have marked: text, answer, and mark (1 to 5). It tells how far the \
judge's marks can be trusted."""
    budget_usd: Annotated[float, Field(ge=0)] = 5.0
    """The most that the comparisons may cost, and likewise the marks of `tunewright data judge`, in USD at the price \
book's prices."""
    priced_as: str | None = None
    """The model's name in the price book, if it differs from the name at the endpoint."""
