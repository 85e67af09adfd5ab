"""From an adapter to what is deployed: merged weights, ONNX, and the bundle that carries everything serving needs."""
