"""The base of all packages: errors, step folders, processes, progress, limits, and the look of HTML reports."""
