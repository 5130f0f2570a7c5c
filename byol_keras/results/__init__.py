"""Results: what a benchmark leaves, where it comes from, and how it is shown."""
