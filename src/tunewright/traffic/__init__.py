"""The jobs in a team's traffic: which requests belong together, what they cost, and which could be owned."""
