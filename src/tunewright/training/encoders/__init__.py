"""Training encoders: a head on a whole model whose every weight is trained, and short texts by the thousand."""
