"""Life in production: the goal, the traffic, what it may cost, Azure, and monitoring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tunewright.config.sections.common import Positive, Secret, Section, Share


class TrafficSpec(Section):
    requests_per_month: Annotated[int, Field(ge=1)] = 1_000_000
    """Requests in a month."""
    peak_to_average: Annotated[float, Field(ge=1)] = 4.0
    """Requests in the busiest minute over those in the average minute. Replicas are sized for it."""
    machine: str = "Standard_D2s_v5"
    """The Azure VM size that serves the model, by its name in the price book. container-apps-2-4 and \
container-apps-4-8 scale to zero."""
    redundancy: Annotated[int, Field(ge=1)] = 1
    """The least number of machines that stand ready. Set 2 if the job must survive the loss of one."""


class CostsSpec(Section):
    engineering_usd: Annotated[float, Field(ge=0)] = 0.0
    """The one-off cost of building the model, in USD: people and trainings."""
    reviews_per_month: Annotated[int, Field(ge=0)] | None = None
    """Answers that people review in a month. By default the ten a day that the review queue draws at random."""
    review_minutes: Annotated[float, Field(ge=0)] | None = None
    """Minutes that a person needs for one review. By default one."""
    hourly_usd: Annotated[float, Field(ge=0)] | None = None
    """The cost of a reviewer's hour, in USD. Without it reviews are not counted, and the verdict says so."""
    retraining_usd: Annotated[float, Field(ge=0)] | None = None
    """The cost of one retraining, in USD. One retraining follows each `monitor.reviews_to_retrain` reviews. By \
default the hours of the last run at the price of `azure.gpu`."""
    upkeep_usd_per_month: Annotated[float, Field(ge=0)] = 0.0
    """Other monthly costs of owning a model, in USD, beside machines, reviews, retraining and storage."""
    horizon_months: Annotated[int, Field(ge=1, le=1_200)] = 12
    """Months within which the model must pay for its engineering."""


class GoalSpec(Section):
    accuracy: Annotated[float, Field(gt=0, le=1)] = 0.9
    """The share of right answers that the job needs, on every test split."""
    margin: Share = 0.02
    """How far the lower end of the 95 % interval may lie below `accuracy`, and how much worse than a measured API a \
model may be."""
    accept_worse: bool = False
    """Recommend a model that reaches `accuracy` even if nothing shows that it is within `margin` of the measured \
API."""
    p95_ms: Positive = 1000.0
    """The longest 95th percentile of the latency that the job allows, in milliseconds."""


class AzureSpec(Section):
    workspace: Annotated[str | None, Field(pattern=r"^[^/\s]+/[^/\s]+/[^/\s]+$")] = None
    """The Azure Machine Learning workspace, as SUBSCRIPTION_ID/RESOURCE_GROUP/NAME. By default it comes from azd's \
variables (AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, AZURE_ML_WORKSPACE), or from a `config.json` beside \
the spec or above it."""
    region: str | None = None
    """The region in which the data may lie, such as westeurope. A workspace in another region is refused."""
    gpu: str | None = "Standard_NC4as_T4_v3"
    """The machine that trains, evaluates and exports, by its name in the price book. null: no GPU."""
    cpu: str | None = None
    """The machine for all other steps. By default the machine that will serve (`traffic.machine`), so that latency \
is measured there; if Azure ML has no clusters of that size, Standard_D4s_v3."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Machines that train together."""
    low_priority: bool = False
    """Train on cheaper machines that Azure may take away. Training then resumes from its last checkpoint."""
    budget_usd: Positive = 20.0
    """The most that a run may cost, in USD at the price book's prices. The run is stopped before it exceeds the \
budget."""
    identity: str | None = None
    """The resource id of the user-assigned identity that jobs and endpoints run as. By default azd's \
AZURE_ML_IDENTITY; without it jobs run as you."""
    base_images: dict[Literal["jobs", "serve", "vllm"], str] = {}  # noqa: RUF012 (pydantic copies it)
    """Base images in your own registry, such as NAME.azurecr.io/python@sha256:…, in place of those of Microsoft and \
Docker Hub. `jobs` needs this machine's Python and a compiler, `serve` needs Python 3.12, and `vllm` needs \
vLLM."""
    job_image: str | None = None
    """An image that holds everything that jobs need, so that Azure builds none. `tunewright azure image` writes its \
build files."""
    package_index: str | None = None
    """The index that pip uses while images are built. By default PyPI."""
    emulate: Literal["new", "seasoned"] = "new"
    """The subscription that `--emulate` plays. new: as `azd up` leaves it, with a person's roles and no quota for \
GPUs. seasoned: with quota and providers for everything, signed in as its owner."""


class MonitorSpec(Section):
    captures: Path = Path("captures")
    """The folder in which servers keep questions, answers and feedback (`tunewright serve --captures`). Folders of \
single servers inside it are found too."""
    database: Secret = None
    """The environment variable that holds the address of a PostgreSQL database, such as \
postgresql://user:password@host/name. By default everything is in monitor.db beside the spec."""
    keep_days: Annotated[int, Field(ge=1, le=36_500)] = 90
    """Days after which captures are deleted. Reviewed captures, daily counts and decisions stay."""
    webhook: Secret = None
    """The environment variable that holds the address to which alarms are sent, as JSON with a `text` that Slack and \
Teams accept. Without it alarms are only printed and kept."""
    reviews_to_retrain: Annotated[int, Field(ge=1)] = 100
    """New reviews after which `tunewright retrain --if-due` starts. After an alarm half as many are enough."""
