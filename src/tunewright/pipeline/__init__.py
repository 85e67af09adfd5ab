"""The table of steps, and what each would need."""
