"""Plans a training before it begins: memory, steps, hours and dollars."""
