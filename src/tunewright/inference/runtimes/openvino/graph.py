"""A decoder as an OpenVINO graph over packed tokens of many sequences, whose keys and values lie in blocks.

The graph is built from quantised weights each time they are loaded, because the attention operation can't be written to
OpenVINO's own format. It covers the models that are Llama but for the details of `tunewright.models.architectures`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.inference.runtimes.openvino.adapter import Adapter
from tunewright.models.architectures import (
    SLIDING,
    activation_of,
    architecture_of,
    attention_scale,
    embedding_scale,
    growing_queries,
    longest_exact,
    windows_of,
)
from tunewright.models.tensor_files import TensorFile

# OpenVINO's package tells Google Analytics that it is imported; without this module it has a stub that does not.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

WEIGHTS = "model.safetensors"
GROUP = 64
"""Inputs of a matrix that share a scale where weights have four bits."""
CONFIG = "config.json"

KEY_CACHE, VALUE_CACHE = "key_cache.{}", "value_cache.{}"
DOWN, UP, SHARE = "down.{}", "up.{}", "share"
_GROUPS = (192, 128, 96, 64, 32)
ADAPTED = (
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
)
"""The matrices of a layer that adapters add to."""


@dataclass(frozen=True)
class GraphShape:
    """What a decoder consists of."""

    layers: int
    heads: int
    key_heads: int
    width: int
    """Of a head."""
    epsilon: float
    windows: tuple[int, ...]
    """For each layer, tokens that a position sees, itself included; 0: all."""
    group: int
    """Inputs of a matrix that are quantised together as they come in."""
    scale: float
    """Of products of queries and keys."""
    embedded: float
    """What embeddings are multiplied by."""
    activation: str
    head_norms: bool
    outer_norms: bool
    rotary_by_kind: bool
    """These three as in `tunewright.models.architectures.Architecture`."""
    growing: tuple[float, int] | None
    """See `tunewright.models.architectures.growing_queries`."""
    capped: float
    """Logits are bent to lie between minus and plus this; 0: they are not."""
    longest: int | None
    """Tokens of a sequence beyond which the graph is another model's; see `longest_exact` there."""

    @classmethod
    def read(cls, folder: Path) -> GraphShape:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        heads = config["num_attention_heads"]
        width = config["hidden_size"]
        head = config.get("head_dim") or width // heads
        kind = architecture_of(config)
        return cls(
            layers=config["num_hidden_layers"],
            heads=heads,
            key_heads=config.get("num_key_value_heads") or heads,
            width=head,
            epsilon=config["rms_norm_eps"],
            windows=tuple(windows_of(config)),
            group=_group(width, heads * head, config["intermediate_size"]),
            scale=attention_scale(config, head),
            embedded=embedding_scale(config),
            activation=activation_of(config),
            head_norms=kind.head_norms,
            outer_norms=kind.outer_norms,
            rotary_by_kind=kind.rotary_by_kind,
            growing=growing_queries(config),
            capped=config.get("final_logit_softcapping") or 0.0,
            longest=longest_exact(config),
        )


def _is_grouped(tensors: dict[str, Any], name: str) -> bool:
    """Whether a matrix has four bits, and a scale for each group of inputs."""
    scale = tensors.get(f"{name}.scale")
    return scale is not None and scale.ndim == 3


def _group(*inputs: int) -> int:
    """The largest of the sizes into which the inputs of all matrices can be cut: larger ones are faster."""
    return next((size for size in _GROUPS if all(count % size == 0 for count in inputs)), _GROUPS[-1])


def adapted_matrices(layers: int) -> list[str]:
    return [f"model.layers.{layer}.{part}" for layer in range(layers) for part in ADAPTED]


@dataclass(frozen=True)
class Graph:
    model: Any
    """An `openvino.Model`."""
    shape: GraphShape
    settings: dict[str, str]
    """With which it must be compiled."""
    weights: TensorFile
    """The mapped file that its constants are: it must be held as long as the graph runs."""


def build(folder: Path, *, half: bool, adapted: bool = False, adapter: Adapter | None = None) -> Graph:
    """The graph of the weights that `tunewright.exporters.openvino` wrote.

    Args:
        half: whether the machine multiplies bfloat16. Quantised weights then attend in it, which takes a third less
            time, and strays no further than without; sums stay in float32.
        adapted: whether adapters are added to the matrices, each token its own.
        adapter: one that is added for all tokens, as part of the graph.

    Its inputs, over the T tokens of a batch of S sequences: `input_ids` and `position_ids` [T], int64; `past_lens` [S],
    tokens of each that are in its blocks; `subsequence_begins` [S + 1], where its tokens begin; `block_indices`, the
    blocks of all sequences in order, and `block_indices_begins` [S + 1], where each one's begin; `max_context_len`, the
    longest of all; and `wanted`, the places whose logits are asked for. The output is [wanted, vocabulary].

    Of adapters of C columns in all, side by side (Hu et al. 2021; many at once as Sheng et al. 2023 serve them): for
    each matrix `down` [in, C] and `up` [C, out], and `share` [T, C], what each token takes of each column.
    """
    shape = GraphShape.read(folder)
    weights = TensorFile(folder / WEIGHTS)
    tensors = {name: tensor.raw for name, tensor in weights.items()}
    matrices = adapted_matrices(shape.layers)
    half = half and tensors["model.embed_tokens.weight"].dtype != np.float32
    settings = {
        # Sums in bfloat16 lie a hundred times further from the original than the quantised weights do.
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "bf16" if half else "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(
            GROUP if any(_is_grouped(tensors, name) for name in matrices) else shape.group
        ),
    }
    return Graph(
        _Builder(shape, tensors, adapted=adapted, adapter=adapter, half=half).model(), shape, settings, weights
    )


class _Builder:
    def __init__(
        self, shape: GraphShape, tensors: dict[str, Any], *, adapted: bool, adapter: Adapter | None, half: bool
    ):
        import openvino.opset13 as ops

        self._ops = ops
        self._shape = shape
        self._tensors = tensors
        self._half = half
        self._adapter = adapter
        self._inputs: list[Any] = []
        self._shares = [self._input(SHARE, [-1, -1], np.float32)] if adapted else []

    def model(self) -> Any:
        from openvino import Model

        ops, shape = self._ops, self._shape
        ids, positions = self._input("input_ids", [-1], np.int64), self._input("position_ids", [-1], np.int64)
        sequences = [
            self._input(name, [-1], np.int32)
            for name in ("past_lens", "subsequence_begins", "block_indices", "block_indices_begins")
        ]
        longest = self._input("max_context_len", [], np.int32)
        wanted = self._input("wanted", [-1], np.int64)
        embedding = self._matrix("model.embed_tokens")
        hidden = ops.gather(embedding, ids, self._constant(np.int32(0)))
        if shape.embedded != 1:
            hidden = ops.multiply(hidden, self._constant(np.float32(shape.embedded)))
        rotations = {False: self._rotation(positions, "rotary")}
        if shape.rotary_by_kind:
            rotations[True] = self._rotation(positions, f"rotary.{SLIDING}")
        growth = self._growth(positions)
        for number in range(shape.layers):
            name = f"model.layers.{number}"
            rotate = rotations[shape.rotary_by_kind and shape.windows[number] > 0]
            seen = self._attention(
                number,
                self._read(hidden, f"{name}.input_layernorm"),
                rotate,
                growth,
                [*self._cache(number), *sequences],
                longest,
            )
            if number == shape.layers - 1:  # behind the last attention only what is asked for matters
                hidden, seen, *self._shares = (
                    ops.gather(each, wanted, self._constant(np.int32(0))) for each in (hidden, seen, *self._shares)
                )
            before = "pre_feedforward_layernorm" if shape.outer_norms else "post_attention_layernorm"
            hidden = self._added(
                hidden, self._linear(f"{name}.self_attn.o_proj", seen), f"{name}.post_attention_layernorm"
            )
            hidden = self._added(
                hidden,
                self._feed_forward(name, self._read(hidden, f"{name}.{before}")),
                f"{name}.post_feedforward_layernorm",
            )
        last = self._read(hidden, "model.norm")
        head = self._matrix("lm_head") if "lm_head.weight" in self._tensors else embedding
        logits = ops.matmul(last, head, transpose_a=False, transpose_b=True)
        if shape.capped:
            cap = self._constant(np.float32(shape.capped))
            logits = ops.multiply(ops.tanh(ops.divide(logits, cap)), cap)
        return Model([ops.result(logits)], self._inputs, "decoder")

    def _read(self, hidden: Any, norm: str) -> Any:
        """What matrices read of the stream: normalised, and turned where they are and it is not."""
        ops, x = self._ops, self._normed(hidden, norm)
        if "turn.signs" not in self._tensors:
            return x
        signs, first, second = (self._tensors[f"turn.{name}"] for name in ("signs", "first", "second"))
        blocks = ops.reshape(
            ops.multiply(x, self._constant(signs)), self._constant([-1, len(first), len(second)]), special_zero=False
        )
        right = ops.matmul(blocks, self._constant(second), transpose_a=False, transpose_b=False)
        left = ops.matmul(self._constant(first[None]), right, transpose_a=True, transpose_b=False)
        return ops.reshape(left, self._constant([-1, len(signs)]), special_zero=False)

    def _added(self, hidden: Any, written: Any, norm: str) -> Any:
        """The stream with what a part of a layer writes."""
        return self._ops.add(hidden, self._normed(written, norm) if self._shape.outer_norms else written)

    def _input(self, name: str, shape: Any, kind: Any) -> Any:
        node = self._ops.parameter(shape, kind)
        node.set_friendly_name(name)
        node.output(0).get_tensor().set_names({name})
        self._inputs.append(node)
        return node

    def _cache(self, number: int) -> list[Any]:
        """The blocks of a layer; their shape and type are the plug-in's to choose."""
        from openvino import PartialShape, Type

        return [
            self._input(name.format(number), PartialShape([-1, -1, -1, -1]), Type.dynamic)
            for name in (KEY_CACHE, VALUE_CACHE)
        ]

    def _constant(self, value: Any) -> Any:
        return self._ops.constant(np.asarray(value))

    def _shared(self, weights: Any) -> Any:
        """A constant that is the mapped file itself."""
        return self._ops.constant(weights, shared_memory=True)

    def _matrix(self, name: str) -> Any:
        """A weight, [out, in]; where it is quantised, as the plug-in knows it."""
        ops, weight = self._ops, self._tensors[f"{name}.weight"]
        if weight.dtype == np.float32:
            return self._shared(weight)
        scale, zero = self._tensors[f"{name}.scale"], self._tensors[f"{name}.zero"]
        grouped = _is_grouped(self._tensors, name)
        stored = self._of_four_bits(weight) if grouped else self._shared(weight)
        levels = ops.subtract(ops.convert(stored, np.float32), ops.convert(self._constant(zero), np.float32))
        whole = ops.multiply(levels, self._constant(scale))
        return ops.reshape(whole, self._constant([len(weight), -1]), special_zero=False) if grouped else whole

    def _of_four_bits(self, packed: Any) -> Any:
        """Two levels of a byte, as [out, groups, inputs of a group]."""
        from openvino import GraphShape as Sides
        from openvino import Tensor, Type

        sides = Sides([len(packed), 2 * packed.shape[1] // GROUP, GROUP])
        return self._ops.constant(Tensor(packed, sides, Type.u4), shared_memory=True)

    def _linear(self, name: str, x: Any) -> Any:
        y = self._ops.matmul(x, self._matrix(name), transpose_a=False, transpose_b=True)
        bias = self._tensors.get(f"{name}.bias")
        if bias is not None:
            y = self._ops.add(y, self._constant(bias))
        for share in self._shares:
            y = self._ops.add(y, self._update(name, x, share))
        if self._adapter and name in self._adapter.down:
            y = self._ops.add(y, self._fixed(self._adapter, name, x))
        return y

    def _fixed(self, adapter: Adapter, name: str, x: Any) -> Any:
        """What the graph's own adapter adds."""
        for matrix in (adapter.down[name], adapter.up[name]):
            turned = self._constant(np.ascontiguousarray(matrix.T))
            x = self._ops.matmul(x, turned, transpose_a=False, transpose_b=True)
        return x

    def _update(self, name: str, x: Any, share: Any) -> Any:
        """What the adapters add."""
        ops = self._ops
        outputs, inputs = self._tensors[f"{name}.weight"].shape
        if _is_grouped(self._tensors, name):
            inputs *= 2
        down = self._input(DOWN.format(name), [inputs, -1], np.float32)
        up = self._input(UP.format(name), [-1, outputs], np.float32)
        inner = ops.multiply(ops.matmul(x, down, transpose_a=False, transpose_b=False), share)
        return ops.matmul(inner, up, transpose_a=False, transpose_b=False)

    def _normed(self, x: Any, name: str) -> Any:
        """Root mean square normalisation (Zhang & Sennrich 2019)."""
        ops = self._ops
        square = ops.reduce_mean(ops.power(x, self._constant(np.float32(2))), self._constant([-1]), keep_dims=True)
        root = ops.sqrt(ops.add(square, self._constant(np.float32(self._shape.epsilon))))
        scaled = ops.multiply(x, ops.divide(self._constant(np.float32(1)), root))
        return ops.multiply(scaled, self._constant(self._tensors[f"{name}.weight"]))

    def _head_normed(self, x: Any, name: str, heads: int) -> Any:
        """[T, heads * width], normalised head by head."""
        ops, width = self._ops, self._shape.width
        each = ops.reshape(x, self._constant([0, heads, width]), special_zero=True)
        return ops.reshape(self._normed(each, name), self._constant([0, heads * width]), special_zero=True)

    def _growth(self, positions: Any) -> Any:
        """What queries are multiplied by at each position [T, 1]; None where it is always one."""
        if self._shape.growing is None:
            return None
        ops, (beta, size) = self._ops, self._shape.growing
        steps = ops.floor(ops.divide(ops.convert(positions, np.float32), self._constant(np.float32(size))))
        one = self._constant(np.float32(1))
        grown = ops.add(one, ops.multiply(self._constant(np.float32(beta)), ops.log(ops.add(one, steps))))
        return ops.unsqueeze(grown, self._constant([1]))

    def _rotation(self, positions: Any, name: str) -> Callable[[Any, int], Any]:
        """Rotary position encoding (Su et al. 2021), as a function of [T, heads * width] and the number of heads."""
        ops, width = self._ops, self._shape.width
        frequencies = self._tensors[f"{name}.inv_freq"]
        scale = self._constant(self._tensors[f"{name}.scale"])
        rotated = 2 * len(frequencies)
        steps = ops.unsqueeze(ops.convert(positions, np.float32), self._constant([1]))
        angles = ops.matmul(steps, self._constant(frequencies[None]), transpose_a=False, transpose_b=False)
        angles = ops.unsqueeze(ops.concat([angles, angles], -1), self._constant([1, 2]))
        cosine, sine = ops.multiply(ops.cos(angles), scale), ops.multiply(ops.sin(angles), scale)

        # In these very steps the plug-in knows it, and does it as one; written otherwise it takes four times as long.
        def rotate(x: Any, heads: int) -> Any:
            order = self._constant([0, 2, 1, 3])
            x = ops.transpose(ops.reshape(x, self._constant([0, 1, heads, width]), special_zero=True), order)
            rest = []
            if rotated < width:
                x, *rest = ops.variadic_split(x, self._constant(3), self._constant([rotated, -1])).outputs()
            first, second = part(x, 0, rotated // 2), part(x, rotated // 2, rotated)
            turned = ops.concat([ops.multiply(second, self._constant(np.float32(-1))), first], -1)
            whole = ops.add(ops.multiply(x, cosine), ops.multiply(turned, sine))
            whole = ops.transpose(ops.concat([whole, *rest], -1) if rest else whole, order)
            return ops.reshape(whole, self._constant([0, heads * width]), special_zero=True)

        def part(x: Any, start: int, end: int) -> Any:
            return ops.slice(x, *map(self._constant, ([start], [end], [1], [3])))

        return rotate

    def _attention(
        self, number: int, x: Any, rotate: Callable[[Any, int], Any], growth: Any, blocks: list[Any], longest: Any
    ) -> Any:
        from openvino.op import _PagedAttentionExtension as PagedAttention

        shape, ops, name = self._shape, self._ops, f"model.layers.{number}.self_attn"
        query, key, value = (self._linear(f"{name}.{part}_proj", x) for part in "qkv")
        if shape.head_norms:
            query = self._head_normed(query, f"{name}.q_norm", shape.heads)
            key = self._head_normed(key, f"{name}.k_norm", shape.key_heads)
        query, key = rotate(query, shape.heads), rotate(key, shape.key_heads)
        if growth is not None:
            query = ops.multiply(query, growth)
        if self._half:
            query, key, value = (ops.convert(each, "bf16") for each in (query, key, value))
        whole, real = np.zeros(0, np.int32), np.zeros(0, np.float32)
        # What the operation can do besides is left empty: biases by distance, scores, moving and dropping of blocks,
        # sparse attention, sinks, token types, masks among the new tokens.
        besides = [
            whole,
            whole,
            whole,
            real,
            real,
            np.int32(0),
            np.int32(0),
            real,
            np.int32(0),
            whole,
            whole,
            whole,
            whole,
            np.zeros(0, np.uint8),
            whole,
        ]
        settings = [np.float32(shape.scale), np.int32(shape.windows[number]), real]
        inputs = [query, key, value, *blocks, *map(self._constant, settings), longest, *map(self._constant, besides)]
        seen = PagedAttention([node.output(0) for node in inputs])
        facts = seen.get_rt_info()
        for kind in "kv":
            facts[f"num_{kind}_heads"], facts[f"{kind}_head_size"] = shape.key_heads, shape.width
        return ops.convert(seen.output(0), np.float32) if self._half else seen.output(0)

    def _feed_forward(self, name: str, x: Any) -> Any:
        gate, up = (self._linear(f"{name}.mlp.{part}_proj", x) for part in ("gate", "up"))
        bent = self._ops.swish(gate) if self._shape.activation == "silu" else self._ops.gelu(gate, "tanh")
        return self._linear(f"{name}.mlp.down_proj", self._ops.multiply(bent, up))
