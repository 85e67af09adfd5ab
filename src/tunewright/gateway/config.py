"""`gateway.yaml`: the upstreams, and what the gateway captures."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from tunewright.config.load import load_settings
from tunewright.config.sections import ENTRA, Endpoint, Secret, Section
from tunewright.core.errors import UserError
from tunewright.core.regular import with_home
from tunewright.serving.captures import LEAST_SHARE

STORE = "TUNEWRIGHT_GATEWAY_STORE"
"""The environment variable that names the store's file where the settings don't. In a container, the settings' own
folder is often read-only."""
_AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a name has up to 60 letters, digits, '_', '.' and '-'")
    return name


Name = Annotated[str, AfterValidator(_name)]


class UpstreamSpec(Section):
    url: Endpoint
    """An OpenAI-compatible endpoint: openai, anthropic, google or mistral for the vendor's own, or an address such as \
https://NAME.openai.azure.com or http://vllm:8000/v1."""
    kind: Literal["openai", "azure"] | None = None
    """The form of its paths and keys. By default azure for the hosts of Azure OpenAI, else openai."""
    key: Secret = None
    """The environment variable that holds the key, never the key itself. entra: sign in through Entra ID. By default \
the client's own key is passed on."""
    models: list[str] = Field(["*"], min_length=1)
    """The models, or Azure deployments, that this upstream answers for; * stands for any letters. The first upstream \
with the requested model gets the request."""
    connections: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Connections to this upstream at a time. Further requests wait for a free one."""
    connect_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Time limit for a connection, and for the wait for a free one."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds without a byte of the answer after which the gateway gives up. The official clients wait as long."""
    retries: Annotated[int, Field(ge=0, le=5)] = 0
    """Times that the gateway repeats a request that got 408, 409, 429 or 5xx, if the upstream allows it and asks for \
no more than a few seconds. The official clients repeat such requests themselves."""

    @model_validator(mode="after")
    def _kind_by_host(self) -> UpstreamSpec:
        if self.kind is None:
            host = urlsplit(self.url).hostname or ""
            self.kind = "azure" if host.endswith(_AZURE_HOSTS) else "openai"
        if self.key == ENTRA and self.kind != "azure":
            raise ValueError("key: entra signs in to Azure OpenAI; for another endpoint name a variable")
        return self


class CaptureSpec(Section):
    folder: Path = Path("captures")
    """The folder of the captured exchanges, relative to this file."""
    share: Annotated[float, Field(ge=LEAST_SHARE, le=1)] = 1.0
    """The share of the exchanges to capture, drawn at random."""
    redact: bool = False
    """Replace personal data in captures by its kind, such as [EMAIL]."""
    largest_kib: Annotated[int, Field(ge=1, le=16 << 10)] = 256
    """The largest request, and the largest answer, that is captured whole. Larger ones are captured without their \
text, but with their size, tokens and price."""


Mode = Literal["observe", "shadow", "cascade", "own"]


class ModelSpec(Section):
    """An own model: a bundle in this process, or a server of bundles."""

    bundle: Path | None = None
    """The folder of a bundle, or of adapters, relative to this file. It answers in this process."""
    url: Endpoint | None = None
    """The address of a `tunewright serve`, such as http://own:8080."""
    name: str | None = None
    """The model's name in a folder of adapters, or at a server of several models."""
    key: Secret = None
    """The environment variable that holds the server's key."""

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        """A text is an address or a folder."""
        if not isinstance(value, str):
            return value
        return {"url" if value.startswith(("http://", "https://")) else "bundle": value}

    @model_validator(mode="after")
    def _exactly_one(self) -> ModelSpec:
        if (self.bundle is None) == (self.url is None):
            raise ValueError("a model has either a bundle or a url")
        return self


class JobSpec(Section):
    """A job whose requests own models may answer."""

    project: Path
    """The job's project, relative to this file, as `tunewright init --from-traffic` makes it: its job.json tells the \
gateway which requests belong to the job, its spec what the goal is."""
    models: list[ModelSpec] = Field([])
    """The own models, each a folder of a bundle or the address of a `tunewright serve`. They are asked in this order \
until one is sure. By default the bundle that the project serves."""
    mode: Mode = "observe"
    """observe: the API answers. shadow: the API answers, and the own model too, but only for comparison. cascade: the \
own model answers if it is sure, else the API. own: the own model answers, the API only where that fails."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of the requests that `mode` holds for; the API answers the others. Equal inputs fall on the same \
side."""
    audit: Annotated[float, Field(ge=0, le=1)] = 0.02
    """The share of the own answers that the API is asked for too, so that agreement stays measured."""
    fallback: bool = True
    """Whether the own model answers where the API fails, in every mode and also where it is not sure."""
    least_agreement: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The agreement with the API below which the gateway takes the own model back. By default the project's goal, \
`goal.accuracy` less `goal.margin`."""
    p95_ms: Annotated[float, Field(gt=0)] | None = None
    """The longest 95th percentile of the own answers' latency, above which the gateway takes the own model back. By \
default the project's `goal.p95_ms`."""
    limit_concurrency: Annotated[int, Field(ge=1)] = 64
    """Requests that the own model may have under way; the API answers further ones."""


class BudgetSpec(Section):
    """What may be paid to upstreams in a calendar month (UTC), by the price book."""

    usd_per_month: Annotated[float, Field(gt=0)]
    key: Name | None = None
    """The client's key that it holds for (`tunewright keys ls`)."""
    job: Name | None = None
    """The job that it holds for. Without key and job it holds for everything."""
    then: Literal["refuse", "own"] = "refuse"
    """What happens once it is used up. refuse: status 429. own: own models answer jobs, sure or not; all else is \
refused."""
    warn_at: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The share of it at which the gateway's log warns."""

    @model_validator(mode="after")
    def _one_holder(self) -> BudgetSpec:
        if self.key and self.job:
            raise ValueError("a budget is of a key or of a job")
        return self

    @property
    def scope(self) -> str:
        """Whom it holds for, in words."""
        return f"key {self.key}" if self.key else f"job {self.job}" if self.job else "everything"


class GatewaySpec(Section):
    """The settings of a gateway."""

    upstreams: Annotated[dict[Name, UpstreamSpec], Field(min_length=1)]
    """The endpoints behind the gateway, by names of your choice."""
    capture: CaptureSpec | None = None
    """What is captured. By default nothing is."""
    keys: Path | None = None
    """A file of keys (`tunewright keys add`), relative to this file; clients need one of them. By default every \
client may use the gateway."""
    jobs: dict[Name, JobSpec] = Field({})
    """The jobs that own models may take over, by names of your choice."""
    budgets: list[BudgetSpec] = Field([])
    """The most that may be paid in a month, of a key, of a job, or of everything; one budget each."""
    store: Path = Path("gateway.db")
    """The file of the jobs' modes, counts and savings and of what was spent, relative to this file. By default \
the file that the environment variable TUNEWRIGHT_GATEWAY_STORE names, or gateway.db."""
    database: Secret = None
    """The environment variable with the address of a PostgreSQL database in place of that file. Several gateways may \
share it."""
    machine: str | None = None
    """The machine that the own models run on, by its name in the price book. Its cost counts in the ledger."""
    limit_concurrency: Annotated[int, Field(ge=1)] = 1000
    """The most requests at a time; more get status 429."""
    prices: Path | None = None
    """A price book of your own, relative to this file; see docs/economics.md."""

    @model_validator(mode="after")
    def _keys_stay_here(self) -> GatewaySpec:
        if self.keys:
            for name, upstream in self.upstreams.items():
                if upstream.key is None:
                    raise ValueError(f"with keys, upstreams.{name} needs a key: the client's own is the gateway's")
        return self

    @model_validator(mode="after")
    def _budgets_can_hold(self) -> GatewaySpec:
        numbers: dict[str, int] = {}
        for number, budget in enumerate(self.budgets):
            if budget.key and not self.keys:
                raise ValueError(f"budgets.{number} is of a key, and the gateway has no `keys`")
            if budget.job and budget.job not in self.jobs:
                raise ValueError(f"budgets.{number}: there is no job '{budget.job}'")
            if (first := numbers.setdefault(budget.scope, number)) != number:
                raise ValueError(
                    f"budgets.{first} and budgets.{number} are both of {budget.scope}, and the smaller one alone would "
                    "hold: leave one of them out"
                )
        return self


def is_gateway(file: Path) -> bool:
    """Whether a file is a gateway's settings, and not a project's spec."""
    return file.is_file() and re.search(r"^upstreams\s*:", file.read_text("utf-8", "replace"), re.MULTILINE) is not None


def load_gateway(file: Path) -> GatewaySpec:
    """Read a gateway's settings. Relative paths start at the file's folder.

    Raises:
        UserError: the file is absent, is not YAML, or does not fit the schema; all faults are listed at once. Or a path
            is in a home directory that does not exist.
    """
    if not file.exists():
        raise UserError("There are no settings here.", where=file, fix="Two lines are enough: see docs/gateway.md")
    spec = load_settings(GatewaySpec, file, "Type: tunewright gateway schema  (it lists every key with its meaning)")
    if "store" not in spec.model_fields_set:
        spec.store = Path(os.environ.get(STORE, spec.store))

    def absolute(path: Path) -> Path:
        return file.parent / with_home(path, f"Write the whole path, without '~', into {file.name} or {STORE}.")

    if spec.capture:
        spec.capture.folder = absolute(spec.capture.folder)
    spec.keys = spec.keys and absolute(spec.keys)
    spec.prices = spec.prices and absolute(spec.prices)
    spec.store = absolute(spec.store)
    for job in spec.jobs.values():
        job.project = absolute(job.project)
        for model in job.models:
            model.bundle = model.bundle and absolute(model.bundle)
    return spec
