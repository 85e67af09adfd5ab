"""What every other package stands on: errors, step folders, processes, progress, limits, and the look of HTML
reports."""
