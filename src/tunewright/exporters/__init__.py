"""Export: merged weights, runtime weights, GGUF files, and the bundle with everything that serving needs."""
