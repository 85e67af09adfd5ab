"""What went wrong in a training, told from its curve and its history."""
