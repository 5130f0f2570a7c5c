"""Embeds a folder of images with a trained backbone, and searches the embeddings."""

from byol_keras.embed.embed_folder import embed_images
from byol_keras.embed.embedder import Embedder, make_embedder
from byol_keras.embed.search import most_similar

__all__ = ["Embedder", "embed_images", "make_embedder", "most_similar"]
