"""Runtimes: torch, ONNX Runtime, OpenVINO, vLLM, and encoders. Each takes token ids and returns logits."""

from __future__ import annotations

VLLM_SHARE = 0.9
"""Share of a card's memory that our servers give vLLM for weights and cache; plans count with the same."""
