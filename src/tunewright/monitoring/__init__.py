"""Day 2: store captures, watch drift, turn reviews into corrections, retrain, promote, and count the savings."""
