"""Kernels of our own for decoders and encoders on processors with AVX-512 VNNI, in the place of OpenVINO."""
