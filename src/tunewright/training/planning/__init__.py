"""What a training would need: memory, steps, hours and dollars, before it begins."""
