"""A run: built from its configuration, checked, trained and evaluated."""

__all__ = ["build", "evaluation", "plan", "rules", "run"]
