"""Shows what a recipe's augmentations do to its images, and measures it."""
