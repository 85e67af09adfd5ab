"""From data to a bundle: how a run trains, evaluates, searches and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tunewright.config.sections.common import Positive, Section, Share


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
    num_swapped_copies: Annotated[int, Field(ge=0, le=32)] = 0
    """For records: copies of each training row in which values give way to those of other rows, in the text and in \
the record. The model then copies names better that it never saw. A pass takes 1 + num_swapped_copies times as long, \
so divide epochs by that."""
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
