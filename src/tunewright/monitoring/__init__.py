"""Day 2: what is kept of what is served, corrected by people, grown into new data, trained anew and promoted."""
