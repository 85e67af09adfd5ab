"""Serving a bundle: ONNX Runtime on the CPU, an OpenAI-compatible API, no torch."""
