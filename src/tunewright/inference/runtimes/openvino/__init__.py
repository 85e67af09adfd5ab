"""Decoders in OpenVINO: many sequences in each forward pass, their keys and values in blocks of memory."""
