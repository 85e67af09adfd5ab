"""The model ladder: candidates from the cheapest on until one does the job, cascades of two, and the cost of the
rest."""
