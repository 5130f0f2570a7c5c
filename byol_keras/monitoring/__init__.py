"""What watches a run: representation, collapse, non-finite steps, logs, speed."""
