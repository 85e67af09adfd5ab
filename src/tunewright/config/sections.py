"""The sections of `tunewright.yaml`. The docstring below each key is its reference: meaning, unit and default."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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


def _named_tests(test: Any) -> Any:
    if isinstance(test, str):
        raise ValueError(f"each test file has a name, such as data.test.held_out={test}")
    return test


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


def _variable(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,59}", name):
        raise ValueError("give the name of an environment variable that holds the key, never the key itself")
    return name


OWN_CANDIDATES = (
    *("majority", "usual", "svm", "nearest", "patterns", "few_shot"),
    *("adapter", "encoder", "linear", "merged", "exported", "served", "batch"),
)
"""What the verdict calls a run's own candidates and the batch API; no other API may be called so."""
HIDDEN = "may hold a secret"
"""Marks a type whose values no error shows, because people write a secret where its name or an address belongs."""
Endpoint = Annotated[str, AfterValidator(endpoint), HIDDEN]
Secret = Annotated[str | None, AfterValidator(_variable), HIDDEN]
SplitName = Annotated[str, AfterValidator(_split_name)]
Effort = Annotated[str, Field(pattern=r"^[a-z]{1,20}$")] | None


class Section(BaseModel):
    """A section of the spec. It refuses unknown keys. The docstring of a field is its description in the JSON Schema
    (`tunewright.config.descriptions`)."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)


def _labels_as_mapping(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    labels = [str(label) for label in value]
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        raise ValueError(f"the label '{repeated[0]}' is listed twice")
    return dict.fromkeys(labels, "")


def _at_least_two(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) < 2:
        raise ValueError(f"a classifier needs at least two labels, this spec has {len(labels)}")
    if any(not label.strip() for label in labels):
        raise ValueError("a label is empty")
    return labels


Labels = Annotated[dict[str, str], BeforeValidator(_labels_as_mapping), AfterValidator(_at_least_two)]


LeaveOut = Literal["nothing", "template", "descriptions", "list", "instruction"]
INPUT = "{text}"
"""The place of the input in `task.input_template`."""


def _has_one_input(template: str | None) -> str | None:
    if template is not None and (template.count(INPUT) != 1 or template.strip() == INPUT):
        raise ValueError(f"the template has {INPUT} once, in the place of the input, and fixed text around it")
    return template


MAX_TURNS = 100
"""The most earlier turns that a task may include."""


class _TaskSection(Section):
    """What every kind of task may have."""

    earlier_turns: Annotated[int, Field(ge=0, le=MAX_TURNS)] = 0
    """Turns of a conversation before its last user message that belong to the input; of longer conversations the \
newest count. By default the model reads the last user message alone."""
    input_template: Annotated[str | None, AfterValidator(_has_one_input)] = None
    """The fixed text around the input in users' messages, with `{text}` in the place of the input. It is taken off \
before anything else looks at the input: the checks, the split, training, batches and the server. A message without it \
is the input as it is. Language models read it again around each input, unless `leave_out` leaves it out; encoders and \
linear models do not."""

    @property
    def is_pruned(self) -> bool:
        """Whether the own model reads less than a model that was not trained on the task."""
        return False


class _PromptedTask(_TaskSection):
    """What every task may have that is taught with a system prompt."""

    leave_out: LeaveOut = "nothing"
    """What the own model's prompt lacks. template: the fixed text around the input (`input_template`). descriptions: \
also those of the labels, fields or tools. list: also the whole list in the place of `{labels}`, `{fields}` or \
`{tools}`. instruction: \
all of it, so that the model reads the input alone. APIs are asked with all of it. `tunewright prune` finds out what \
can be left out."""

    @model_validator(mode="after")
    def _has_a_template_to_leave_out(self) -> Self:
        if self.leave_out == "template" and self.input_template is None:
            raise ValueError("leave_out is 'template', but there is no input_template to leave out")
        return self

    @property
    def is_pruned(self) -> bool:
        return self.leave_out != "nothing"


class ClassifySpec(_PromptedTask):
    kind: Literal["classify"]
    """The task: the model chooses one label of a fixed set."""
    instruction: str
    """The system prompt. The labels with their descriptions, one a line, replace `{labels}` in it."""
    labels: Labels
    """The labels: a list, or a mapping from each label to a description of one line."""
    single_token_labels: bool = False
    """Whether one token stands for each label, so that the model decides in one forward pass. The token is a word of \
the label where no other label has taken it, else one or two letters. The model learns these tokens, so set it \
in the spec that trains."""


class MultiLabelSpec(_TaskSection):
    kind: Literal["multi_label"]
    """The task: the model says which labels of a fixed set hold. Any number of them may hold, or none."""
    instruction: str
    """The system prompt for the APIs that the model is compared with; an encoder reads the text alone. The labels \
with their descriptions, one a line, replace `{labels}` in it."""
    labels: Labels
    """The labels: a list, or a mapping from each label to a description of one line."""


class ExtractSpec(_PromptedTask):
    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["extract"]
    """The task: the model fills the fields of a record."""
    instruction: str
    """The system prompt. The fields with their descriptions, one a line, replace `{fields}` in it."""
    record: Annotated[dict[str, Any] | str, Field(alias="schema")]
    """The record's schema: a JSON Schema, a .json file that holds one, or, with --allow-code, a Pydantic model as \
`module:Model`."""
    window: Annotated[int, Field(ge=64)] | None = None
    """Tokens of a document that the model reads at once. A longer document is cut at line ends into overlapping \
windows, and the results of the windows are merged. By default the model reads whole documents, and documents \
that are too long are refused."""


class GenerateSpec(_PromptedTask):
    kind: Literal["generate"]
    """The task: the model writes free text."""
    instruction: str
    """The system prompt."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens after which an answer is cut. By default a little more than twice the length of the longest training \
answer."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer and do not belong to it."""


class ToolsSpec(_PromptedTask):
    kind: Literal["tools"]
    """The task: the model calls one of some tools with its arguments, or answers with a text."""
    instruction: str
    """The system prompt. The tools with their descriptions, one a line, replace `{tools}` in it."""
    tools: list[dict[str, Any]] | str
    """The tools in the form of OpenAI's API, or a .json file that holds the list. Each has a name, a description and \
the JSON Schema of its arguments (`parameters`)."""


TaskSpec = Annotated[
    ClassifySpec | MultiLabelSpec | ExtractSpec | GenerateSpec | ToolsSpec, Field(discriminator="kind")
]


DataForm = Literal[
    "chat",
    "stored",
    "sharegpt",
    "alpaca",
    "prompt",
    "labelled",
    "gateway",
    "litellm",
    "helicone",
    "langfuse",
    "mlflow",
    "otlp",
    "phoenix",
    "openai-batch",
    "openai-batch-input",
    "openai-response",
    "openai-stream",
    "openai-stored",
    "openai-stored-messages",
    "pairs",
]


class DataSpec(Section):
    train: Path
    """The training data, relative to the spec: a file, a folder or a pattern such as data/*.csv. The formats are \
JSONL, CSV, TSV and Parquet, gzipped or not."""
    test: Annotated[dict[SplitName, Path], BeforeValidator(_named_tests)] = {}
    """Test files by name. Without any, `test_fraction` of the training rows is held out."""
    form: DataForm | None = None
    """The shape of a row; by default Tunewright detects it for each file. stored: stored completions; labelled: text \
and label; pairs: requests with their responses; the others: logs, each by the name of what wrote it."""
    text: str = "text"
    """The column that holds the input."""
    document: str | None = None
    """The column that holds the path of a document, relative to the data file. The document's text is then the input \
in place of `text`. PDF, e-mail, the output of an OCR engine and plain text are read."""
    documents_root: Path | None = None
    """The folder in which documents must lie, relative to the spec. Rows that name a file outside it are not read. \
By default the folder of the data."""
    label: str | dict[str, str] = "label"
    """The column that holds the answer: a label, or a record as an object or as JSON text. If several columns hold \
the record, a mapping from its fields to the columns."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """The text between labels, such as ";", if a column holds several labels as one text. An empty text then means \
that no label holds. Columns that hold lists need no separator."""
    group: str | None = None
    """A column whose equal values must stay on one side of a split, such as customer, template or thread."""
    time: str | None = None
    """A column that says when a row was written: ISO 8601, or epoch seconds or milliseconds. Test and validation are \
then the newest rows, and labels are not balanced."""
    frozen: Path | None = None
    """The folder of the frozen test, which must exist. By default `frozen_test` beside the spec, where `tunewright \
data freeze` writes it."""
    corrections: Path | None = None
    """The folder of corrections, whose rows are appended to `train`. By default `corrections` beside the spec, where \
`tunewright monitor corrections` writes them."""
    max_unreadable: Share = 0.0
    """The share of a file's rows that may be unreadable. Unreadable rows are left out and kept in a quarantine file."""
    test_fraction: Share = 0.2
    """The share of the rows held out for the test if the spec names no test file. If it names one, the share of the \
corrections that is held out for the gate of a retraining."""
    validation_fraction: Share = 0.1
    """The share of the training rows held out for validation. The kept adapter, early stopping, the choice of a \
sweep, the diagnosis and the confidence threshold rest on these rows."""


class LoraSpec(Section):
    r: Annotated[int, Field(ge=1, le=512)] = 16
    """The rank of the update."""
    alpha: Positive = 32
    """The scale of the update, which is multiplied by alpha / r."""
    dropout: Share = 0.0
    """Dropout on the adapter's input, as a share."""


class EncoderSpec(Section):
    lr: Positive = 3e-4
    """The peak learning rate of AdamW in the encoder's uppermost layer. All of the encoder's weights are trained."""
    head_lr: Positive = 5e-3
    """The peak learning rate of the head, which chooses the label."""
    epochs: Positive = 6
    """Passes over the training rows."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Texts in one forward pass; texts of about equal length share a batch. By default 32, and 8 for records if \
there are fewer than 500 documents."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of the encoder's matrices."""
    label_smoothing: Share = 0.05
    """The share of each target that is spread over all labels, so that the model is less sure of wrong rows."""
    consistency: Annotated[float, Field(ge=0)] = 1.0
    """The weight of the R-Drop loss: two forward passes over a text, with different dropout, must agree. It makes \
training 1.6 times as long, and the model better if there are few texts. 0: one forward pass a text."""


class TrainSpec(Section):
    encoder: EncoderSpec = EncoderSpec()
    """The settings for a base model that is an encoder. They replace lr, epochs, batch_size, weight_decay, lora, \
method and loss."""
    method: Literal["lora", "qlora"] = "lora"
    """lora: the base in `precision`. qlora: the base in 4-bit NF4 with double quantization."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The number format of the computation. auto: bfloat16 if the machine supports it in hardware."""
    loss: Literal["tokens", "labels"] = "tokens"
    """tokens: the model learns every token of the answer. labels: it learns only the tokens that decide between \
labels, as serving scores them. labels is best for little data, but the model then answers only if its choice \
is confined to the labels."""
    lora: LoraSpec = LoraSpec()
    """Rank, scale and dropout of the adapter."""
    lr: Positive = 5e-4
    """The peak learning rate of AdamW."""
    epochs: Positive = 2
    """Passes over the training rows."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Examples in one forward pass."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Forward passes per optimizer step."""
    warmup_ratio: Share = 0.1
    """The share of the steps over which the learning rate rises."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    optimizer: Literal["auto", "adamw", "paged_adamw", "paged_adamw_8bit"] = "auto"
    """paged_adamw: on a GPU, the optimizer's states move to main memory when the GPU's is short. paged_adamw_8bit: \
the same, in a quarter of the memory. If the GPU's driver can't page, as on a vGPU, the states stay. auto: \
adamw, because an adapter's states are small."""
    gradient_checkpointing: bool = False
    """Keep one activation per layer and recompute the others in the backward pass. Training is a third slower and \
needs far less memory."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of the adapter."""
    max_length: Annotated[int, Field(ge=16)] = 1024
    """The most tokens in one example, answer included. Longer examples are refused, because a cut answer teaches cut \
answers."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many optimizer steps, for a trial. By default training runs all epochs."""
    num_seeds: Annotated[int, Field(ge=1, le=32)] = 1
    """How many adapters or encoders are trained from different seeds and averaged (a model soup). The average is \
better on inputs unlike the training data; training takes this many times as long."""
    num_evaluations: Annotated[int, Field(ge=0)] = 4
    """How often the training of a model stops to answer the validation rows. The latest state is kept that is not \
worse than the best, beyond chance. Two worse states in a row end the training. 0: the last state is kept."""
    num_checkpoints: Annotated[int, Field(ge=0)] = 4
    """How often the training of a model saves the state that it needs to resume after an interruption, beside every \
quarter of an hour. 0: only when SIGTERM comes."""
    init_adapter: Path | None = None
    """The folder of an adapter to start from, with the same base and the same `lora`. By default a new adapter, \
which changes nothing."""


class EvaluateSpec(Section):
    few_shot: Annotated[int, Field(ge=0)] = 8
    """Examples in the prompt of the untuned base model. 0 leaves that candidate out."""
    max_examples: Annotated[int, Field(ge=1)] | None = None
    """The most examples of each test split, for a trial. By default all of them."""


class SearchSpec(Section):
    minutes: Positive | None = None
    """The minutes that a run may spend on candidates. A candidate whose forecast exceeds the rest is not started, \
and the best so far stands. The first candidate always runs. By default there is no limit."""
    usd: Positive | None = None
    """The same limit in USD, for steps that run in Azure; local steps cost nothing."""


class ExportSpec(Section):
    runtime: Literal["auto", "onnxruntime", "openvino", "openvino-lora", "vllm", "vllm-lora"] = "auto"
    """The runtime that serves the model: ONNX Runtime GenAI answers one request at a time, OpenVINO many at once, \
and vLLM many at once on a GPU. With -lora the adapter stays beside its base, and one OpenVINO server holds \
many adapters. auto: OpenVINO if it knows the model and the processor is an x86, else ONNX Runtime. Encoders \
are served with one of these two."""
    precision: Literal["int8", "int4", "fp32"] = "int8"
    """The precision of the served weights. int4 loses too much below about 1 B parameters, and encoders do not have \
it. vLLM always uses 16 bits."""
    max_disagreement: Share = 0.05
    """Gate: the share of test answers that may change between the adapter and the served bundle."""
    max_accuracy_drop: Share = 0.01
    """Gate: the accuracy that the served bundle may lose against the adapter. A loss that could be chance passes."""

    @property
    def weights(self) -> str:
        """The precision of the served weights."""
        return "16-bit" if self.runtime.startswith("vllm") else self.precision


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
    base_images: dict[Literal["jobs", "serve", "vllm"], str] = {}
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
