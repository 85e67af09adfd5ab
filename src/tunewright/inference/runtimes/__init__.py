"""Runtimes: torch, ONNX Runtime, OpenVINO, vLLM, and encoders. Each takes token ids and returns logits."""
