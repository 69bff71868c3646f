"""Shards of embeddings, the index of views, folds and draws."""
