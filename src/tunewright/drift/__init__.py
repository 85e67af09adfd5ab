"""Drift: whether today's requests and answers differ from those that the model was judged on."""
