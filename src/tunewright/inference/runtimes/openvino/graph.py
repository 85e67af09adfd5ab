"""A decoder as an OpenVINO graph. It runs the packed tokens of many sequences, and keeps keys and values in blocks.

We build the graph from quantised weights each time they are loaded, because OpenVINO's own format can't hold the
attention operation. It covers Llama, and the models that differ from it in the details listed in
`tunewright.models.architectures`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.inference.runtimes.openvino.adapter import Adapter
from tunewright.inference.runtimes.openvino.shape import (
    DOWN,
    GROUP,
    KEY_CACHE,
    SHARE,
    UP,
    VALUE_CACHE,
    WEIGHTS,
    GraphShape,
    adapted_matrices,
)
from tunewright.models.architectures import SLIDING
from tunewright.models.tensor_files import TensorFile

_SMALL = 16
"""Values of a constant that is kept to be used again."""


@dataclass(frozen=True)
class Graph:
    model: Any
    """An `openvino.Model`."""
    shape: GraphShape
    settings: dict[str, str]
    """Compile the graph with these."""
    weights: TensorFile
    """The mapped file that holds the graph's constants. Keep it open as long as the graph runs."""


def _is_grouped(tensors: dict[str, Any], name: str) -> bool:
    """Whether a matrix has 4-bit weights with a scale for each group of inputs."""
    scale = tensors.get(f"{name}.scale")
    return scale is not None and scale.ndim == 3


def build(folder: Path, *, half: bool, adapted: bool = False, adapter: Adapter | None = None) -> Graph:
    """Build the graph of weights that `tunewright.exporters.openvino` wrote.

    The graph's inputs, for the T tokens of a batch of S sequences:

    - `input_ids` and `position_ids` [T], int64.
    - `past_lens` [S]: tokens of each sequence that are in its blocks.
    - `subsequence_begins` [S + 1]: where each sequence's tokens begin.
    - `block_indices`: the blocks of all sequences in order, and `block_indices_begins` [S + 1]: where each sequence's
      blocks begin.
    - `max_context_len`: the length of the longest sequence.
    - `logit_positions`: the tokens whose logits are needed.

    The output is [logit_positions, vocabulary].

    Adapters with C columns in all lie side by side (Hu et al. 2021; Sheng et al. 2023 serve many at once). Each matrix
    has the inputs `down` [in, C] and `up` [C, out]. `share` [T, C] says how much of each column each token takes.

    Args:
        half: whether the machine multiplies bfloat16. Attention over quantised weights then runs in bfloat16, which
            takes a third less time and adds no error. Sums stay in float32.
        adapted: whether each token may have its own adapter.
        adapter: an adapter for all tokens, built into the graph.
    """
    shape = GraphShape.read(folder)
    weights = TensorFile(folder / WEIGHTS)
    tensors = {name: tensor.raw for name, tensor in weights.items()}
    matrices = adapted_matrices(shape.layers)
    half = half and tensors["model.embed_tokens.weight"].dtype != np.float32
    settings = {
        # Sums in bfloat16 are a hundred times further from the original than the quantization error.
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
        self._small: dict[tuple[str, tuple[int, ...], bytes], Any] = {}
        """The constants of a few values."""
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
        logit_positions = self._input("logit_positions", [-1], np.int64)
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
            attended = self._attention(
                number,
                self._layer_input(hidden, f"{name}.input_layernorm"),
                rotate,
                growth,
                [*self._cache(number), *sequences],
                longest,
            )
            if number == shape.layers - 1:  # after the last attention, only tokens whose logits are needed go on
                hidden, attended, *self._shares = (
                    ops.gather(each, logit_positions, self._constant(np.int32(0)))
                    for each in (hidden, attended, *self._shares)
                )
            before = "pre_feedforward_layernorm" if shape.outer_norms else "post_attention_layernorm"
            hidden = self._added(
                hidden, self._linear(f"{name}.self_attn.o_proj", attended), f"{name}.post_attention_layernorm"
            )
            hidden = self._added(
                hidden,
                self._feed_forward(name, self._layer_input(hidden, f"{name}.{before}")),
                f"{name}.post_feedforward_layernorm",
            )
        last = self._layer_input(hidden, "model.norm")
        head = self._matrix("lm_head") if "lm_head.weight" in self._tensors else embedding
        logits = ops.matmul(last, head, transpose_a=False, transpose_b=True)
        if shape.capped:
            cap = self._constant(np.float32(shape.capped))
            logits = ops.multiply(ops.tanh(ops.divide(logits, cap)), cap)
        return Model([ops.result(logits)], self._inputs, "decoder")

    def _layer_input(self, hidden: Any, norm: str) -> Any:
        """The residual stream, normalised, and rotated if the matrices are stored rotated."""
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

    def _added(self, hidden: Any, output: Any, norm: str) -> Any:
        """The residual stream plus the output of an attention or feed-forward block."""
        return self._ops.add(hidden, self._normed(output, norm) if self._shape.outer_norms else output)

    def _input(self, name: str, shape: Any, kind: Any) -> Any:
        node = self._ops.parameter(shape, kind)
        node.set_friendly_name(name)
        node.output(0).get_tensor().set_names({name})
        self._inputs.append(node)
        return node

    def _cache(self, number: int) -> list[Any]:
        """The key and value blocks of a layer. OpenVINO chooses their shape and type."""
        from openvino import PartialShape, Type

        return [
            self._input(name.format(number), PartialShape([-1, -1, -1, -1]), Type.dynamic)
            for name in (KEY_CACHE, VALUE_CACHE)
        ]

    def _constant(self, value: Any) -> Any:
        """A constant. Equal small ones are one node: OpenVINO takes as long to compile as there are nodes."""
        array = np.asarray(value)
        if array.size > _SMALL:
            return self._ops.constant(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._small:
            self._small[key] = self._ops.constant(array)
        return self._small[key]

    def _shared(self, weights: Any) -> Any:
        """A constant that uses the mapped file's memory, without a copy."""
        return self._ops.constant(weights, shared_memory=True)

    def _matrix(self, name: str) -> Any:
        """A weight, [out, in]. A quantised one takes the form that OpenVINO recognises."""
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
        """Weights packed two to a byte, as [out, groups, inputs of a group]."""
        from openvino import Shape, Tensor, Type

        sides = Shape([len(packed), 2 * packed.shape[1] // GROUP, GROUP])
        return self._ops.constant(Tensor(packed, sides, Type.u4), shared_memory=True)

    def _linear(self, name: str, x: Any) -> Any:
        y = self._ops.matmul(x, self._matrix(name), transpose_a=False, transpose_b=True)
        bias = self._tensors.get(f"{name}.bias")
        if bias is not None:
            y = self._ops.add(y, self._constant(bias))
        for share in self._shares:
            y = self._ops.add(y, self._adapters_output(name, x, share))
        if self._adapter and name in self._adapter.down:
            y = self._ops.add(y, self._built_in_adapter_output(self._adapter, name, x))
        return y

    def _built_in_adapter_output(self, adapter: Adapter, name: str, x: Any) -> Any:
        for matrix in (adapter.down[name], adapter.up[name]):
            turned = self._constant(np.ascontiguousarray(matrix.T))
            x = self._ops.matmul(x, turned, transpose_a=False, transpose_b=True)
        return x

    def _adapters_output(self, name: str, x: Any, share: Any) -> Any:
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
        """The factor of the queries at each position [T, 1]; None if it is always one."""
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

        # OpenVINO recognises exactly these steps and fuses them. Any other form takes four times as long.
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
        integers, floats = np.zeros(0, np.int32), np.zeros(0, np.float32)
        # The operation's other features stay off: biases by distance, scores, moving and dropping of blocks, sparse
        # attention, sinks, token types, masks among the new tokens.
        unused = [
            integers,
            integers,
            integers,
            floats,
            floats,
            np.int32(0),
            np.int32(0),
            floats,
            np.int32(0),
            integers,
            integers,
            integers,
            integers,
            np.zeros(0, np.uint8),
            integers,
        ]
        settings = [np.float32(shape.scale), np.int32(shape.windows[number]), floats]
        inputs = [query, key, value, *blocks, *map(self._constant, settings), longest, *map(self._constant, unused)]
        attended = PagedAttention([node.output(0) for node in inputs])
        facts = attended.get_rt_info()
        for kind in "kv":
            facts[f"num_{kind}_heads"], facts[f"{kind}_head_size"] = shape.key_heads, shape.width
        return ops.convert(attended.output(0), np.float32) if self._half else attended.output(0)

    def _feed_forward(self, name: str, x: Any) -> Any:
        gate, up = (self._linear(f"{name}.mlp.{part}_proj", x) for part in ("gate", "up"))
        activated = self._ops.swish(gate) if self._shape.activation == "silu" else self._ops.gelu(gate, "tanh")
        return self._linear(f"{name}.mlp.down_proj", self._ops.multiply(activated, up))
