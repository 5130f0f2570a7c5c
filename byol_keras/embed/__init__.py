"""Embeds folders of images and searches them."""
