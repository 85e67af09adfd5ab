"""Writes a tuned encoder as a graph for OpenVINO or ONNX Runtime, with its matrices in int8 or unchanged."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.errors import UserError
from tunewright.exporters.quantisation import Loss
from tunewright.inference.runtimes.base import require_encoder_precision
from tunewright.inference.runtimes.encoder_model import INPUT, ONNX, OPENVINO

_OF_MATRIX = {"MatMul": 1, "Gather": 0}
"""Operations with a matrix, and the index of the input that is the matrix."""
_BLOCK = 32
"""Inputs that share a scale in ONNX Runtime's matrices and in its quantised activations. Its other method, one scale
for all activations, has ten times the error (logits of all-MiniLM-L6), and is no faster."""
_MOST = 127
"""The highest level: eight bits around zero."""


def build_encoder(source: Path, target: Path, runtime: str, precision: str) -> Loss:
    """Write the graph of a tuned encoder.

    Args:
        source: a folder written by `tunewright.training.encoders.network.Network.save_pretrained`.
        runtime: a runtime for encoders; see `tunewright.inference.runtimes.base`.
        precision: "int8", with a scale for each output of a matrix; or "fp32".

    Raises:
        UserError: the precision is any other; or the weights are not finite numbers.
    """
    require_encoder_precision(precision)
    return write_graph(graph_of(source, runtime), target, runtime, precision)


def graph_of(source: Path, runtime: str) -> Any:
    """The unquantised graph of a tuned encoder: a `torch.onnx.ONNXProgram` or an `openvino.Model`.

    Args:
        source, runtime: as in `build_encoder`.

    Raises:
        UserError: the weights are not finite numbers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns the authors of models
        return (_onnx_graph if runtime == "onnxruntime-encoder" else _openvino_graph)(_served(source))


def write_graph(graph: Any, target: Path, runtime: str, precision: str) -> Loss:
    """Write a graph of `graph_of`. Only an ONNX graph can be written again afterwards.

    Args:
        target: a new folder.
        precision: a precision for encoders.
    """
    target.mkdir(parents=True)
    if runtime == "onnxruntime-encoder":
        return _write_onnx(graph, target / ONNX, precision)
    return _write_openvino(graph, target / OPENVINO, precision)


def token_outputs(source: Path) -> list[str]:
    """The meaning of a token's logits; empty where the encoder's head reads whole texts."""
    from tunewright.training.encoders.network import ABOUT

    about = json.loads((source / ABOUT).read_text("utf-8"))
    return list(about["labels"]) if about.get("per_token") else []


def _served(source: Path) -> Any:
    """The network for serving. It takes texts of one length. Its head either compares text vectors, with normalised and
    scaled weights, or reads tokens."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from tunewright.training.encoders.network import SCALE, Network

    class Served(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self, network: Network):
            super().__init__()
            self.network = network
            weight, bias = network.head.weight.detach(), network.head.bias.detach()
            compares = not network.per_token
            self.register_buffer("weight", SCALE * F.normalize(weight, dim=-1) if compares else weight)
            self.register_buffer("bias", SCALE * bias if compares else bias)

        def forward(self, input_ids: Any) -> Any:
            read = self.network.hidden if self.network.per_token else self.network.embed
            return F.linear(read(input_ids), self.weight, self.bias)

    network = Network.load(source)
    if not all(torch.isfinite(each).all() for each in network.state_dict().values()):
        raise UserError(
            "The encoder's weights are not finite numbers.",
            where=source,
            why="The training diverged, or the base was so. Such a model gives no useful answer.",
            fix="Train again with a smaller train.encoder.lr, or with another base.",
        )
    return Served(network).eval()


def _example() -> Any:
    import torch

    return torch.full((2, 9), 5)


def _openvino_graph(network: Any) -> Any:
    import openvino as ov

    model = ov.convert_model(network, example_input={INPUT: _example()})
    model.inputs[0].tensor.set_names({INPUT})
    return model


def _write_openvino(model: Any, file: Path, precision: str) -> Loss:
    import openvino as ov

    loss = _compress(model) if precision == "int8" else Loss()
    ov.save_model(model, str(file), compress_to_fp16=False)
    return loss


def _compress(model: Any) -> Loss:
    """Replace each matrix that multiplies activations, and the token embeddings, by int8 with a scale for each output
    or token."""
    import openvino.opset13 as ops

    loss = Loss()
    for each in list(model.get_ops()):
        kind, how = each.get_type_name(), each.get_attributes()
        if kind not in _OF_MATRIX:
            continue
        constant = each.input_value(_OF_MATRIX[kind]).get_node()
        if constant.get_type_name() != "Constant" or constant.data.ndim != 2 or constant.data.dtype.kind != "f":
            continue
        exact = constant.data.astype(np.float32)
        rows = np.ascontiguousarray(exact.T) if kind == "MatMul" and not how["transpose_b"] else exact
        levels, scales = _eight_bits(rows, loss)
        if kind == "MatMul":
            matrix = ops.multiply(ops.convert(ops.constant(levels), np.float32), ops.constant(scales))
            smaller = ops.matmul(each.input_value(0), matrix, how["transpose_a"], True)
        else:
            number, axis = each.input_value(1), ops.constant(np.int64(0))
            row, scale = (ops.gather(ops.constant(part), number, axis) for part in (levels, scales))
            smaller = ops.multiply(ops.convert(row, np.float32), scale)
        each.output(0).replace(smaller.output(0))
    return loss


def _eight_bits(rows: Any, loss: Loss) -> tuple[Any, Any]:
    """(levels of a matrix, a scale for each row [rows, 1])."""
    scales = np.maximum(np.abs(rows).max(1, keepdims=True) / _MOST, np.finfo(np.float32).tiny)
    levels = np.rint(rows / scales).astype(np.int8)
    loss.error += float(np.square(levels * scales - rows).sum())
    loss.whole += float(np.square(rows).sum())
    return levels, scales


def _onnx_graph(network: Any) -> Any:
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it complains about the missing torchvision
    dynamic = torch.export.Dim.DYNAMIC
    return torch.onnx.export(
        network,
        (_example(),),
        dynamo=True,
        input_names=[INPUT],
        output_names=["logits"],
        dynamic_shapes={INPUT: {0: dynamic, 1: dynamic}},
        verbose=False,
    )


def _write_onnx(program: Any, file: Path, precision: str) -> Loss:
    if precision == "fp32":
        program.save(str(file))
        return Loss()
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    exact = program.model_proto
    quantizer = MatMulNBitsQuantizer(
        copy.deepcopy(exact), bits=8, block_size=_BLOCK, is_symmetric=True, accuracy_level=4
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(file))
    return _loss_of(exact, quantizer.model.model)


def _loss_of(exact: Any, quantised: Any) -> Loss:
    """The quantization error of int8 matrices, in blocks around level 128."""
    from onnx import numpy_helper

    loss = Loss()
    originals, parts = ({each.name: each for each in model.graph.initializer} for model in (exact, quantised))
    for node in quantised.graph.node:
        if node.op_type != "MatMulNBits":
            continue
        levels, scales = (numpy_helper.to_array(parts[name]).astype(np.float32) for name in node.input[1:3])
        rows = numpy_helper.to_array(originals[node.input[1].removesuffix("_Q8")]).T  # [out, in]
        restored = ((levels - 128) * scales.reshape(*levels.shape[:2], 1)).reshape(len(levels), -1)[:, : rows.shape[1]]
        loss.error += float(np.square(restored - rows).sum())
        loss.whole += float(np.square(rows).sum())
    return loss
