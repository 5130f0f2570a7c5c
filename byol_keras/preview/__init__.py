"""Shows and measures what a recipe's augmentations do to its images."""

__all__ = ["contact_sheet"]
