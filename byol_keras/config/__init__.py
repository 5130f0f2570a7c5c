"""Reads and checks gin configurations; knows nothing of what they configure."""
