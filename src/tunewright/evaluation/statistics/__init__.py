"""Statistics: intervals, paired tests, groups, slices, and the ceiling that the labels set."""
