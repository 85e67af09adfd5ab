"""The sections of `tunewright.yaml`. Every key has one meaning, a unit where it needs one, and a working default."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


def _split_name(name: str) -> str:
    if name in ("train", "validation") or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", name):
        raise ValueError("a name has at most 60 letters, digits, '_', '-' and '.', and is not train or validation")
    return name


USUAL = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "google": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
}
"""Providers' OpenAI-compatible endpoints and the usual variable of a key, by the provider's name in the price book.

Sources: ai.google.dev/gemini-api/docs/openai, platform.claude.com/docs/en/api/openai-sdk, docs.mistral.ai/api,
developers.openai.com/api (2026-11-28).
"""


def _endpoint(url: str) -> str:
    if url in USUAL:
        return USUAL[url][0]
    if not re.fullmatch(r"https?://[^\s@?#]+", url):
        raise ValueError("an endpoint is an http(s) address without user, password or query; its key has a variable")
    return url.rstrip("/")


def _variable(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,59}", name):
        raise ValueError("this is the name of an environment variable that holds the key, never the key itself")
    return name


Secret = Annotated[str | None, AfterValidator(_variable)]
SplitName = Annotated[str, AfterValidator(_split_name)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )


def _labels_as_mapping(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    labels = [str(label) for label in value]
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise ValueError(f"the label '{twice[0]}' stands here twice")
    return dict.fromkeys(labels, "")


def _at_least_two(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) < 2:
        raise ValueError(f"a classifier needs at least two labels, this spec has {len(labels)}")
    if any(not label.strip() for label in labels):
        raise ValueError("a label is empty")
    return labels


Labels = Annotated[dict[str, str], BeforeValidator(_labels_as_mapping), AfterValidator(_at_least_two)]


class ClassifySpec(Section):
    kind: Literal["classify"]
    """What the model must do: choose one label of a fixed set."""
    instruction: str
    """The system prompt. `{labels}` in it is replaced by the labels, one a line, with their descriptions."""
    labels: Labels
    """The labels: a list, or a mapping from each label to one line that describes it."""
    single_token_labels: bool = False
    """Whether a label is answered by one token, so that the model decides in one pass: a word of its own where no other
    label has taken it, else a letter or two. The model learns them, so the spec that trains must say it."""


class MultiLabelSpec(Section):
    kind: Literal["multi_label"]
    """What the model must do: say which labels of a fixed set hold; any number of them may, or none."""
    instruction: str
    """The system prompt, for the APIs that the model is compared with; an encoder reads the text alone. `{labels}` in \
it is replaced by the labels, one a line, with their descriptions."""
    labels: Labels
    """The labels: a list, or a mapping from each label to one line that describes it."""


class ExtractSpec(Section):
    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["extract"]
    """What the model must do: fill the fields of a record."""
    instruction: str
    """The system prompt. `{fields}` in it is replaced by the fields, one a line, with their descriptions."""
    record: Annotated[dict[str, Any] | str, Field(alias="schema")]
    """What a record looks like: a JSON Schema, a .json file with one, or, with --allow-code, a Pydantic model as \
`module:Model`."""
    window: Annotated[int, Field(ge=64)] | None = None
    """Tokens of a document that are read at once. A longer one is read in overlapping windows, cut at line ends, and \
what is found in them is put together. By default documents are read whole, and too long ones are refused."""


class GenerateSpec(Section):
    kind: Literal["generate"]
    """What the model must do: write an answer."""
    instruction: str
    """The system prompt."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens after which an answer is cut; by default twice as many as the longest has that was taught, and a few."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer, and are no part of it."""


TaskSpec = Annotated[ClassifySpec | MultiLabelSpec | ExtractSpec | GenerateSpec, Field(discriminator="kind")]


class DataSpec(Section):
    train: Path
    """The training data, relative to the spec: a file, a folder or a pattern such as data/*.csv. JSONL, CSV, TSV and \
Parquet are read, gzipped or not."""
    test: dict[SplitName, Path] = {}
    """Test files by name. Without any, `test_fraction` of the training file is held out."""
    form: Literal["chat", "stored", "sharegpt", "alpaca", "prompt", "labelled"] | None = None
    """What a row looks like; found out for each file by default. stored: stored completions; labelled: text, label."""
    text: str = "text"
    """The column that holds the input."""
    document: str | None = None
    """The column that holds the path of a document, relative to the data file, whose text is the input in place of \
`text`: a PDF, an e-mail, a file of an OCR engine, plain text."""
    documents_root: Path | None = None
    """The folder in which documents must lie, relative to the spec; a row that names any other file is not read. By \
default the folder of the data."""
    label: str | dict[str, str] = "label"
    """The column that holds the answer: a label, or a record (an object, or JSON as text). For a record that lies in \
several columns, a mapping from its fields to them."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Of several labels a row, what stands between them where the column holds them as one text, such as ";". An \
empty text then means that none holds. Lists need none."""
    group: str | None = None
    """A column whose equal values must stay on one side of a split (customer, template, thread)."""
    time: str | None = None
    """A column that says when a row was written (ISO 8601, or epoch seconds or milliseconds). Test and validation are \
then the newest rows, and labels are not balanced."""
    frozen: Path | None = None
    """The folder of the frozen test, which must be there. By default `frozen_test` beside the spec, where \
`tunewright data freeze` made one."""
    corrections: Path | None = None
    """The folder of corrections, whose rows are read behind `train`. By default `corrections` beside the spec, where \
`tunewright monitor corrections` wrote any."""
    max_unreadable: Share = 0.0
    """Share of a file's rows that may be unreadable: those are left out and kept in a quarantine file."""
    test_fraction: Share = 0.2
    """Share of the rows held out for the test where no test file is given. Where one is, that of the corrections \
which are not trained on, for the gate of a retraining."""
    validation_fraction: Share = 0.1
    """Share of the training rows held out. Which adapter is kept, when a training stops, a sweep's choice, the \
diagnosis and the confidence threshold rest on them."""


class LoraSpec(Section):
    r: Annotated[int, Field(ge=1, le=512)] = 16
    """Rank of the update."""
    alpha: Positive = 32
    """Scale of the update: it is multiplied by alpha / r."""
    dropout: Share = 0.0
    """Dropout on the adapter's input."""


class EncoderSpec(Section):
    lr: Positive = 3e-4
    """Peak learning rate of AdamW, of the encoder's uppermost layer; all of its weights are trained."""
    head_lr: Positive = 5e-3
    """That of the head, which chooses the label."""
    epochs: Positive = 6
    """Passes over the training rows."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Texts in one forward pass; those of a batch are about equally long. Unset: 32, and 8 for records of fewer than \
500 documents."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay of the encoder's matrices."""
    label_smoothing: Share = 0.05
    """Share of each answer that is taught as any label, so that the model is less sure of wrong rows."""
    consistency: Annotated[float, Field(ge=0)] = 1.0
    """How much two readings of a text, with other parts of the network left out, must agree (R-Drop): it makes a \
training 1.6 times as long, and better where texts are few. 0: each text is read once."""


class TrainSpec(Section):
    encoder: EncoderSpec = EncoderSpec()
    """Where the base model is an encoder, what stands in the place of lr, epochs, batch_size, weight_decay, lora, \
method and loss."""
    method: Literal["lora", "qlora"] = "lora"
    """lora: the base in `precision`. qlora: the base in 4-bit NF4 with double quantisation."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What products are computed in. auto: bfloat16 where the machine has it in hardware."""
    loss: Literal["tokens", "labels"] = "tokens"
    """tokens: every token of the answer is learnt. labels: only what decides between labels, as serving scores them; \
best for little data, but the model then answers only where its choice is confined to the labels."""
    lora: LoraSpec = LoraSpec()
    lr: Positive = 5e-4
    """Peak learning rate of AdamW."""
    epochs: Positive = 2
    """Passes over the training rows."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Examples in one forward pass."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Forward passes to one optimizer step."""
    warmup_ratio: Share = 0.1
    """Share of the steps over which the learning rate rises."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    optimizer: Literal["auto", "adamw", "paged_adamw", "paged_adamw_8bit"] = "auto"
    """paged_adamw: on a GPU, its states move to main memory when they are in the way; _8bit: and take a quarter. They \
stay where the GPU's driver can't page, as on a vGPU. auto: adamw, because an adapter's states are small."""
    gradient_checkpointing: bool = False
    """Keep one activation a layer and compute the others again in the backward pass: a third slower, far smaller."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decay of the adapter's weights."""
    max_length: Annotated[int, Field(ge=16)] = 1024
    """Tokens in one example, answer included. Longer ones are refused: a cut answer teaches cut answers."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many optimizer steps, for a trial."""
    num_seeds: Annotated[int, Field(ge=1, le=32)] = 1
    """Adapters, or encoders, trained from different seeds, whose average is kept (a model soup): better on inputs \
unlike the training's, at this many times the training time."""
    num_evaluations: Annotated[int, Field(ge=0)] = 4
    """How many times the training of a model stops to answer the validation part. The latest state is kept that \
is not worse, beyond chance, than the best; two in a row that are end the training. 0: the last one is kept."""
    num_checkpoints: Annotated[int, Field(ge=0)] = 4
    """How many times the training of a model saves what it needs to resume after an interruption."""
    init_adapter: Path | None = None
    """The folder of an adapter to begin with, of the same base and `lora`, in place of one that changes nothing."""


class EvaluateSpec(Section):
    few_shot: Annotated[int, Field(ge=0)] = 8
    """Examples shown to the untuned base model; 0 leaves that candidate out."""
    max_examples: Annotated[int, Field(ge=1)] | None = None
    """At most this many examples of each test split, for a trial."""


class SearchSpec(Section):
    minutes: Positive | None = None
    """Minutes that a run may try candidates: one whose forecast would pass them is not begun, and the best so far \
stands. The first is always tried."""
    usd: Positive | None = None
    """The same in USD, where the steps run in Azure; here nothing is paid."""


class ExportSpec(Section):
    runtime: Literal["auto", "onnxruntime", "openvino", "openvino-lora", "vllm", "vllm-lora"] = "auto"
    """What the weights are served with: ONNX Runtime GenAI, one request after the other; OpenVINO, many at once; or \
vLLM, many at once on a GPU. With -lora the adapter stays beside its base, and one OpenVINO server has many of them. \
auto: OpenVINO, where it knows the model and the processor is an x86; else ONNX Runtime. An encoder is \
served with one of these two."""
    precision: Literal["int8", "int4", "fp32"] = "int8"
    """Precision of the served weights. int4 loses too much below about 1 B parameters, and is none of an encoder's. \
vLLM takes 16 bits whatever stands here."""
    max_disagreement: Share = 0.05
    """Gate: share of test answers that may change between the adapter and the served bundle."""
    max_accuracy_drop: Share = 0.01
    """Gate: accuracy that may be lost between the adapter and the served bundle. A loss that could be chance passes."""

    @property
    def weights(self) -> str:
        """The precision of what is served."""
        return "16-bit" if self.runtime.startswith("vllm") else self.precision


class ApiSpec(Section):
    name: SplitName | None = None
    """What reports call it; by default its model, with the reasoning effort where one is named."""
    model: str = "gpt-4o"
    """The model, by its name in the price book (`tunewright models prices`)."""
    prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens in the prompt you send it, ticket included. By default those of the tuned model's own, shorter prompt."""
    completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens in one answer, where the API writes more than the bare answer."""
    url: Annotated[str, AfterValidator(_endpoint)] | None = None
    """An OpenAI-compatible endpoint, which is then asked the test examples, for money: openai, anthropic, google or \
mistral for theirs; of Azure OpenAI https://NAME.openai.azure.com/openai/v1. Without it nothing is asked."""
    protocol: Literal["chat-completions", "responses"] = "chat-completions"
    """Which of OpenAI's APIs the endpoint speaks."""
    key: Secret = "OPENAI_API_KEY"
    """The environment variable that holds the key, never the key itself; null where none is needed; entra to sign in \
through Entra ID. By default the usual one of a provider that `url` names."""
    deployment: str | None = None
    """The model's name at the endpoint, where it is another than in the price book."""
    prompt: str | None = None
    """The system prompt that you send; {labels} and {fields} in it are replaced. By default the task's instruction, \
with what may be answered listed."""
    shots: Annotated[int, Field(ge=0)] = 0
    """Solved examples of the training part that it is shown before each request."""
    reasoning_effort: Annotated[str, Field(pattern=r"^[a-z]{1,20}$")] | None = None
    """How hard it is asked to think before it answers, such as none, low or high; by default as hard as it does \
unasked."""
    structured: bool = True
    """Confine its answers to the labels or the record's schema (response_format), where the endpoint can."""
    recorded: Path | None = None
    """A file of what the API answered to the test's texts: stored completions, or text and answer in the columns that \
`data` names. Nothing is asked then."""

    @model_validator(mode="after")
    def _one_source(self) -> ApiSpec:
        if self.url and self.recorded:
            raise ValueError("url has it asked, recorded says what it answered: name one of them")
        if "key" not in self.model_fields_set:
            self.key = next((key for url, key in USUAL.values() if url == self.url), self.key)
        return self

    @property
    def measured(self) -> bool:
        """Whether there is, or will be, an answer of it to the test examples."""
        return bool(self.url or self.recorded)

    @property
    def label(self) -> str:
        """What reports and files call it."""
        model = re.sub(r"[^A-Za-z0-9_.-]", "-", self.model)
        return self.name or (f"{model}-{self.reasoning_effort}" if self.reasoning_effort else model)


class BaselineSpec(Section):
    sample: Annotated[int, Field(ge=1)] | None = None
    """At most this many examples of each test split are asked of APIs, evenly spaced."""
    budget_usd: Annotated[float, Field(ge=0)] = 5.0
    """What the answers of all APIs may cost in all, at the price book's prices. It stops before it would be passed."""


class TrafficSpec(Section):
    requests_per_month: Annotated[int, Field(ge=1)] = 1_000_000
    """Answers needed in a month."""
    peak_to_average: Annotated[float, Field(ge=1)] = 4.0
    """Busiest minute over the average one; replicas are sized for it."""
    machine: str = "Standard_D2s_v5"
    """The Azure VM size a served model runs on, by its name in the price book; container-apps-2-4 and \
container-apps-4-8 scale to zero."""
    redundancy: Annotated[int, Field(ge=1)] = 1
    """Machines that stand ready at the least; 2 where the job must not stop with one of them."""


class CostsSpec(Section):
    engineering_usd: Annotated[float, Field(ge=0)] = 0.0
    """What building it costs, once: people, trainings."""
    reviews_per_month: Annotated[int, Field(ge=0)] | None = None
    """Answers that people review. By default the ten a day that the review queue draws at random."""
    review_minutes: Annotated[float, Field(ge=0)] | None = None
    """How long one review takes a person; by default one minute."""
    hourly_usd: Annotated[float, Field(ge=0)] | None = None
    """What an hour of a reviewer costs. Without it reviews are not counted, and the verdict says so."""
    retraining_usd: Annotated[float, Field(ge=0)] | None = None
    """What one retraining costs, of which there is one for each `monitor.reviews_to_retrain` reviews. By default the \
hours that the last run took, at the price of `azure.gpu`."""
    upkeep_usd_per_month: Annotated[float, Field(ge=0)] = 0.0
    """What else a model of one's own costs a month, beside machines, reviews, retraining and storage."""
    horizon_months: Annotated[int, Field(ge=1)] = 12
    """Months within which it has to have paid for its engineering."""


class JudgeSpec(Section):
    model: str
    """The model that judges, by its name at the endpoint."""
    rubric: str = "It does what was asked, is right in every detail, and says nothing that is not needed."
    """What makes one answer better than another."""
    url: Annotated[str, AfterValidator(_endpoint)] = "https://api.openai.com/v1"
    """An OpenAI-compatible endpoint; of Azure OpenAI https://NAME.openai.azure.com/openai/v1."""
    key: Secret = "OPENAI_API_KEY"
    """The environment variable that holds the key, never the key itself; null where none is needed; entra to sign in \
through Entra ID."""
    sample: Annotated[int, Field(ge=1)] = 100
    """Examples of each test split that are judged, each in two questions."""
    human: Path | None = None
    """A JSON Lines file of pairs that people have judged: text, first, second, and better (first, second or tie)."""


class GoalSpec(Section):
    accuracy: Annotated[float, Field(gt=0, le=1)] = 0.9
    """The share of right answers the job needs, on every test split."""
    margin: Share = 0.02
    """How far below `accuracy` the lower end of the 95 % interval may reach, and how much worse than a measured API a \
model may be."""
    accept_worse: bool = False
    """Recommend what reaches `accuracy` although it is not shown to be within `margin` of the API that was measured."""
    p95_ms: Positive = 1000.0
    """The 95th percentile of the latency the job can live with, in milliseconds."""


class AzureSpec(Section):
    workspace: Annotated[str | None, Field(pattern=r"^[^/\s]+/[^/\s]+/[^/\s]+$")] = None
    """The Azure Machine Learning workspace, as SUBSCRIPTION_ID/RESOURCE_GROUP/NAME. By default what azd's variables \
(AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, AZURE_ML_WORKSPACE) or a `config.json` beside the spec or above it say."""
    region: str | None = None
    """Where the data may lie, such as westeurope; a workspace that lies elsewhere is refused."""
    gpu: str | None = "Standard_NC4as_T4_v3"
    """The machine that trains, evaluates and exports, by its name in the price book; null where no GPU is wanted."""
    cpu: str | None = None
    """The machine for all else. By default the one that will serve (`traffic.machine`), so that latency is measured \
there; where Azure ML has no clusters of it, Standard_D4s_v3."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Machines that train together."""
    low_priority: bool = False
    """Train on machines that cost less and may be taken away; a training then goes on from its last checkpoint."""
    budget_usd: Positive = 20.0
    """What a run may cost at the price book's prices. It is stopped before it would cost more."""
    identity: str | None = None
    """The resource id of a user-assigned identity that jobs and endpoints run as. By default azd's AZURE_ML_IDENTITY; \
without it jobs run as you."""
    base_images: dict[Literal["jobs", "serve", "vllm"], str] = {}
    """What images are built on, in place of Microsoft's and Docker Hub's: images in your own registry, such as \
NAME.azurecr.io/python@sha256:… For `jobs` one with this machine's Python and a compiler, for `serve` one with Python \
3.12, for `vllm` one with vLLM."""
    job_image: str | None = None
    """An image that has all that jobs need, so that Azure builds none: `tunewright azure image` lays out what it is \
built of."""
    package_index: str | None = None
    """The index that pip asks while images are built, in place of PyPI."""
    emulate: Literal["new", "seasoned"] = "new"
    """The subscription that `--emulate` plays: a new one as `azd up` leaves it, without quota for GPUs and with a \
person's roles, or one that was granted quota and providers for everything, whose owner is signed in."""


class MonitorSpec(Section):
    captures: Path = Path("captures")
    """The folder that servers keep questions, answers and feedback in (`tunewright serve --captures`); one inside it \
for each server is found too."""
    database: Secret = None
    """The environment variable that holds the address of a PostgreSQL database, such as \
postgresql://user:password@host/name. By default everything lies in monitor.db, beside the spec."""
    keep_days: Annotated[int, Field(ge=1)] = 90
    """Days after which captures are deleted. Reviewed ones, tallies and what was decided stay."""
    webhook: Secret = None
    """The environment variable that holds the address that alarms are sent to (JSON with a `text`, as Slack and Teams \
take it); without one they are printed and kept only."""
    reviews_to_retrain: Annotated[int, Field(ge=1)] = 100
    """New reviews from which `tunewright retrain --if-due` begins; after an alarm half as many are enough."""
