"""Weights of other systems: reading theirs, writing ours for them."""
