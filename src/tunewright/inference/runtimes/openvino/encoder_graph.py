"""Reads the weights of an encoder of BERT's or RoBERTa's kind from the graph that OpenVINO runs.

The graph is followed from its result back to its input, and each step must be the one that such an encoder has. A graph
with any other step gives no weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int8]
Reads = Literal["mean", "first", "tokens"]

_TYPES: Mapping[str, Any] = {"f32": np.float32, "i64": np.int64, "i32": np.int32, "i8": np.int8}
_LARGEST = 16 << 20
"""Bytes of a graph without its weights. One of 24 layers has a million."""
_LEAST_LENGTH = 1e-12
"""What torch divides a shorter vector by."""


@dataclass(frozen=True)
class EightBits:
    """A matrix of int8 levels, each row with a scale."""

    levels: Levels
    """[outputs, inputs]"""
    scale: Floats
    """[outputs]"""
    bias: Floats | None = None
    """[outputs]"""

    @property
    def rows(self) -> Floats:
        return self.levels * self.scale[:, None]


@dataclass(frozen=True)
class Norm:
    weight: Floats
    shift: Floats
    epsilon: float


@dataclass(frozen=True)
class EncoderLayer:
    query: EightBits
    key: EightBits
    value: EightBits
    out: EightBits
    up: EightBits
    down: EightBits
    norm: Norm
    """After attention."""
    last_norm: Norm
    heads: int
    width: int
    """Of a head."""
    scale: float
    """Of attention's scores."""

    @property
    def matrices(self) -> tuple[EightBits, ...]:
        return (self.query, self.key, self.value, self.out, self.up, self.down)


@dataclass(frozen=True)
class EncoderWeights:
    words: EightBits
    """[vocabulary, hidden]"""
    places: Floats
    """[positions, hidden]: what is added to a token's vector for its position and its type."""
    padding: int | None
    """RoBERTa's padding token: it has the position of its own number, the others the positions from the next one on, in
    their order. None: every token has the position of its place in the text, from 0 on."""
    norm: Norm
    """Of the embeddings."""
    layers: tuple[EncoderLayer, ...]
    head: EightBits
    reads: Reads
    """What the head reads: the mean of the tokens' vectors or the first one, of length one; or each."""

    @property
    def longest(self) -> int:
        """Tokens that positions are known for."""
        return len(self.places) - (0 if self.padding is None else self.padding + 1)

    @property
    def is_whole(self) -> bool:
        """Whether the sizes of all parts fit each other, and all layers are alike."""
        hidden = self.words.levels.shape[1]
        shapes = {(layer.heads, layer.width, len(layer.up.levels), layer.scale) for layer in self.layers}
        norms = [self.norm, *(norm for layer in self.layers for norm in (layer.norm, layer.last_norm))]
        if len(shapes) != 1 or len({norm.epsilon for norm in norms}) != 1:
            return False
        ((heads, width, inner, _),) = shapes
        attended = heads * width
        sides = [(attended, hidden)] * 3 + [(hidden, attended), (inner, hidden), (hidden, inner)]
        return (
            self.places.shape[1] == self.head.levels.shape[1] == hidden
            and all(len(norm.weight) == len(norm.shift) == hidden for norm in norms)
            and all([each.levels.shape for each in layer.matrices] == sides for layer in self.layers)
        )


def read_encoder_graph(file: Path) -> EncoderWeights | None:
    """The weights in a graph; None if it is of another kind, or in another precision, or not whole.

    Args:
        file: the graph, `model.xml`. Its weights are beside it.
    """
    try:
        return _weights(_graph(file))
    except (_Unlike, OSError, ValueError, TypeError, LookupError, ElementTree.ParseError):
        return None


class _Unlike(Exception):
    """The graph has another step there."""


@dataclass(eq=False)
class _Node:
    kind: str
    about: Mapping[str, str]
    data: npt.NDArray[np.uint8]
    """The bytes of all weights."""
    inputs: list[_Node] = field(default_factory=list)

    def require(self, kind: str, **about: str) -> list[_Node]:
        """Its inputs.

        Raises:
            _Unlike: it is of another kind, or works in another way.
        """
        if self.kind != kind or any(self.about.get(name) != value for name, value in about.items()):
            raise _Unlike
        return self.inputs

    @property
    def value(self) -> npt.NDArray[Any]:
        """Of a constant.

        Raises:
            _Unlike: it is none.
        """
        self.require("Const")
        kind = np.dtype(_TYPES[self.about["element_type"]])
        shape = [int(side) for side in self.about["shape"].split(",") if side.strip()]
        start, size = int(self.about["offset"]), int(self.about["size"])
        if size != kind.itemsize * math.prod(shape) or not 0 <= start <= start + size <= len(self.data):
            raise _Unlike
        return np.frombuffer(self.data[start : start + size].tobytes(), kind).reshape(shape)

    def require_value(self, *wanted: float) -> None:
        if self.value.ravel().tolist() != list(wanted):
            raise _Unlike


def _graph(file: Path) -> _Node:
    """The node of the result."""
    if file.stat().st_size > _LARGEST:
        raise _Unlike
    root = ElementTree.parse(file).getroot()
    data = np.memmap(file.with_suffix(".bin"), np.uint8, "r")
    nodes = {}
    for layer in root.iterfind("layers/layer"):
        about = layer.find("data")
        nodes[layer.attrib["id"]] = _Node(layer.attrib["type"], about.attrib if about is not None else {}, data)
    edges = sorted(root.iterfind("edges/edge"), key=lambda edge: int(edge.attrib["to-port"]))
    for edge in edges:
        nodes[edge.attrib["to-layer"]].inputs.append(nodes[edge.attrib["from-layer"]])
    (result,) = (node for node in nodes.values() if node.kind == "Result")
    return result


def _weights(result: _Node) -> EncoderWeights:
    (top,) = result.require("Result")
    read, head = _linear(top)
    node, reads = _read(read)
    layers = []
    while node.kind == "Add" and (found := _layer(node)):
        node, layer = found
        layers.append(layer)
    words, places, padding, norm = _embeddings(node)
    return EncoderWeights(words, places, padding, norm, tuple(reversed(layers)), head, reads)


def _linear(node: _Node) -> tuple[_Node, EightBits]:
    """(what a matrix reads, the matrix)."""
    product, bias = node.require("Add")
    read, matrix = product.require("MatMul", transpose_a="false", transpose_b="true")
    levels, scale = matrix.require("Multiply")
    (constant,) = levels.require("Convert")
    return read, _eight_bits(constant, scale, bias)


def _eight_bits(levels: _Node, scale: _Node, bias: _Node | None = None) -> EightBits:
    matrix, scales = levels.value, scale.value
    shift = None if bias is None else bias.value
    if matrix.dtype != np.int8 or matrix.ndim != 2 or scales.shape != (len(matrix), 1) or scales.dtype != np.float32:
        raise _Unlike
    if shift is not None and (shift.size != len(matrix) or shift.dtype != np.float32):
        raise _Unlike
    return EightBits(matrix, scales.ravel(), None if shift is None else shift.ravel())


def _norm(node: _Node) -> tuple[_Node, Norm]:
    """(what is normalised, the weights)."""
    scaled, shift = node.require("Add")
    normal, weight = scaled.require("Multiply")
    about = {"normalize_variance": "true", "eps_mode": "INSIDE_SQRT"}
    read, axes = normal.require("MVN", **about)
    axes.require_value(-1)
    by, plus = weight.value.ravel(), shift.value.ravel()
    if by.dtype != np.float32 or plus.dtype != np.float32:
        raise _Unlike
    return read, Norm(by, plus, float(normal.about["eps"]))


def _layer(node: _Node) -> tuple[_Node, EncoderLayer] | None:
    """(what a layer reads, the layer); None where the embeddings begin."""
    added, last_norm = _norm(node)
    first, attended = added.require("Add")
    if attended.kind != "Add":
        return None
    between, down = _linear(first)
    (wide,) = between.require("Gelu", approximation_mode="ERF")
    same, up = _linear(wide)
    summed, norm = _norm(attended)
    result, read = summed.require("Add")
    mixed, out = _linear(result)
    attention, sizes = _unfolded(mixed)
    *parts, mask, scale = attention.require("ScaledDotProductAttention", causal="false")
    mask.require_value(0)
    query, key, value = (_folded(part, read, sizes) for part in parts)
    if same is not attended:
        raise _Unlike
    return read, EncoderLayer(query, key, value, out, up, down, norm, last_norm, *sizes, float(scale.value))


def _unfolded(node: _Node) -> tuple[_Node, tuple[int, int]]:
    """(attention, its heads and the width of one), where its heads are put side by side."""
    turned, joined = node.require("Reshape", special_zero="true")
    apart, order = turned.require("Transpose")
    order.require_value(0, 2, 1, 3)
    attention, shape = apart.require("Reshape", special_zero="true")
    _, heads, _, width = shape.value.tolist()
    shape.require_value(0, heads, 0, width)
    joined.require_value(0, 0, heads * width)
    return attention, (heads, width)


def _folded(node: _Node, read: _Node, sizes: tuple[int, int]) -> EightBits:
    """The matrix of what is cut into heads."""
    apart, order = node.require("Transpose")
    order.require_value(0, 2, 1, 3)
    whole, shape = apart.require("Reshape", special_zero="true")
    shape.require_value(0, 0, *sizes)
    source, matrix = _linear(whole)
    if source is not read:
        raise _Unlike
    return matrix


def _read(node: _Node) -> tuple[_Node, Reads]:
    """(the tokens' vectors, what the head reads of them)."""
    node = _unspread(node)
    if node.kind != "Divide":
        return node, "tokens"
    vector, longer = node.require("Divide")
    length, least = longer.require("Maximum")
    squared, axes = length.require("ReduceL2", keep_dims="true")
    least.require_value(float(np.float32(_LEAST_LENGTH)))
    if squared is not vector or axes.value.ravel().tolist() not in ([-1], [1]):
        raise _Unlike
    if vector.kind == "ReduceMean":
        tokens, axis = vector.require("ReduceMean", keep_dims="false")
        axis.require_value(1)
        return tokens, "mean"
    tokens, number, axis = vector.require("Gather")
    number.require_value(0)
    axis.require_value(1)
    return tokens, "first"


def _unspread(node: _Node) -> _Node:
    """What is spread to its own shape, which changes nothing."""
    if node.kind != "Broadcast":
        return node
    whole, shape = node.require("Broadcast")
    for each in shape.require("Maximum"):
        if each.require("ShapeOf") != [whole]:
            raise _Unlike
    return whole


def _embeddings(node: _Node) -> tuple[EightBits, Floats, int | None, Norm]:
    """(the words, what is added for a position and the first type, the padding token if positions count from it, the
    norm)."""
    added, norm = _norm(node)
    word, place = added.require("Add")
    places, positions = _looked_up(place)
    padding = _padding(positions, len(places.levels))
    vectors = places.rows
    if word.kind == "Add":
        word, kind = word.require("Add")
        kinds, none = _looked_up(kind)
        _require_zeros(none)
        vectors = vectors + kinds.rows[0]
    words, ids = _looked_up(word)
    ids.require("Parameter")
    return words, vectors, padding, norm


def _require_zeros(node: _Node) -> None:
    """Raises:
    _Unlike: not every token is of the first type.
    """
    data, _ = node.require("Broadcast")
    zeros, _ = data.require("GatherElements")
    if zeros.kind == "Broadcast":
        zeros, _ = zeros.require("Broadcast")
    if zeros.value.any():
        raise _Unlike


def _looked_up(node: _Node) -> tuple[EightBits, _Node]:
    """(a table, the numbers of the rows that are read)."""
    levels, scale = node.require("Multiply")
    (converted,) = levels.require("Convert")
    table, numbers, axis = converted.require("Gather")
    scales, same, scale_axis = scale.require("Gather")
    axis.require_value(0)
    scale_axis.require_value(0)
    if same is not numbers:
        raise _Unlike
    (ids,) = numbers.require("Convert")
    return _eight_bits(table, scales), ids


def _padding(positions: _Node, most: int) -> int | None:
    """The token that positions count from; None if they are 0, 1, 2, … up to a text's length.

    Args:
        most: positions that there are vectors for.

    Raises:
        _Unlike: they are counted in another way.
    """
    if positions.kind == "Slice":
        _require_counted(positions, most)
        return None
    counted, first = positions.require("Add")
    (product,) = counted.require("Convert")
    number, mask = product.require("Multiply")
    same, axis = number.require("CumSum", exclusive="false", reverse="false")
    axis.require_value(1)
    (differs,) = mask.require("Convert")
    ids, padding = differs.require("NotEqual")
    ids.require("Parameter")
    token = int(padding.value.item())
    first.require_value(token)
    if same is not mask or not 0 <= token < most:
        raise _Unlike
    return token


def _require_counted(node: _Node, most: int) -> None:
    """Raises:
    _Unlike: the positions are not 0, 1, 2, … up to a text's length.
    """
    numbers, start, stop, step, axis = node.require("Slice")
    length, which, first = stop.require("Gather")
    (ids,) = length.require("ShapeOf")
    if ids.kind == "Convert":
        (ids,) = ids.require("Convert")
    ids.require("Parameter")
    for constant, value in ((start, 0), (step, 1), (axis, 1), (which, 1), (first, 0)):
        constant.require_value(value)
    numbers.require_value(*range(most))
