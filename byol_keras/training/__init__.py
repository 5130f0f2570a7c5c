"""What a configuration stands for: built, checked, run, evaluated."""
