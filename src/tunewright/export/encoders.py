"""A tuned encoder as a graph for OpenVINO or ONNX Runtime, its matrices in eight bits or as they are."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.export.quantise import Loss
from tunewright.models.encoder_model import INPUT, ONNX, OPENVINO
from tunewright.models.runtime import require_encoder_precision

_MOST = 127
"""The highest level: eight bits around zero."""


def build_encoder(source: Path, target: Path, runtime: str, precision: str) -> Loss:
    """Write the graph of a tuned encoder.

    Args:
        source: what `tunewright.train.encoders.network.Network.save_pretrained` wrote.
        runtime: one of an encoder's; see `tunewright.models.runtime`.
        precision: "int8", a scale for each output of a matrix; or "fp32".

    Raises:
        UserError: the precision is another one.
    """
    require_encoder_precision(precision)
    target.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, for whoever writes models
        if runtime == "onnxruntime-encoder":
            return _build_onnx(_served(source), target / ONNX, precision)
        return _build_openvino(_served(source), target / OPENVINO, precision)


def _served(source: Path) -> Any:
    """The network as it serves: texts of one length, and a head whose vectors have their length and sharpness."""
    from torch import nn
    from torch.nn import functional as F

    from tunewright.train.encoders.network import SCALE, Network

    class Served(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self, network: Network):
            super().__init__()
            self.network = network
            self.register_buffer("weight", SCALE * F.normalize(network.head.weight.detach(), dim=-1))
            self.register_buffer("bias", SCALE * network.head.bias.detach())

        def forward(self, input_ids: Any) -> Any:
            return F.linear(self.network.embed(input_ids), self.weight, self.bias)

    return Served(Network.load(source)).eval()


def _example() -> Any:
    import torch

    return torch.full((2, 9), 5)


def _build_openvino(network: Any, file: Path, precision: str) -> Loss:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as ov

    model = ov.convert_model(network, example_input={INPUT: _example()})
    model.inputs[0].tensor.set_names({INPUT})
    loss = _compress(model) if precision == "int8" else Loss()
    ov.save_model(model, str(file), compress_to_fp16=precision == "int8")
    return loss


def _compress(model: Any) -> Loss:
    """Put eight bits and a scale for each output in the place of each matrix that texts are multiplied by."""
    import openvino.opset13 as ops

    loss = Loss()
    for multiplied in [each for each in model.get_ops() if each.get_type_name() == "MatMul"]:
        constant = multiplied.input_value(1).get_node()
        if constant.get_type_name() != "Constant" or constant.data.ndim != 2:
            continue
        how = multiplied.get_attributes()
        exact = constant.data.astype(np.float32)
        rows = exact if how["transpose_b"] else np.ascontiguousarray(exact.T)
        scales = np.maximum(np.abs(rows).max(1, keepdims=True) / _MOST, np.finfo(np.float32).tiny)
        levels = np.rint(rows / scales).astype(np.int8)
        loss.error += float(np.square(levels * scales - rows).sum())
        loss.whole += float(np.square(rows).sum())
        matrix = ops.multiply(ops.convert(ops.constant(levels), np.float32), ops.constant(scales))
        multiplied.output(0).replace(ops.matmul(multiplied.input_value(0), matrix, how["transpose_a"], True).output(0))
    return loss


def _build_onnx(network: Any, file: Path, precision: str) -> Loss:
    import torch

    dynamic = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        network, (_example(),), dynamo=True, input_names=[INPUT], output_names=["logits"],
        dynamic_shapes={INPUT: {0: dynamic, 1: dynamic}}, verbose=False,
    )  # fmt: skip
    if precision == "fp32":
        program.save(str(file))
        return Loss()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        whole = Path(scratch) / ONNX
        program.save(str(whole))
        quantize_dynamic(str(whole), str(file), weight_type=QuantType.QInt8, per_channel=True)
    return Loss()
