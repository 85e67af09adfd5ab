"""Kernels of our own for decoders on processors with AVX-512 VNNI, in the place of OpenVINO."""
