"""What runs a model: torch, ONNX Runtime, OpenVINO, vLLM, and encoders; each takes token ids and gives logits."""
