"""Weights of other systems: read theirs, and write ours in their format."""
