"""Evidence and verdict: every predictor on the same examples, its accuracy with intervals, its latency and its
price."""
