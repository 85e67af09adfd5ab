"""Candidates from the cheapest on, until one does the job; cascades of two of them; and what the others would cost."""
