"""Gin configurations: parsing, checks, the graph of references, used values.

Nothing here depends on what is configured, so that any gin project can use it.
"""

__all__ = ["bindings", "graph", "operative", "parse", "syntax", "trial"]
