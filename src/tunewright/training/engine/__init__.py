"""Fast paths of a training step: packing, attention over packed batches, the loss head, LoRA layers."""
