"""The table of steps, their fingerprints, the runner, and the plan of their memory and time."""
