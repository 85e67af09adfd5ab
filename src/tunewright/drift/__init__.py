"""Whether what is asked and answered now differs from what the model was judged on: traits, windows, tests, alarms."""
