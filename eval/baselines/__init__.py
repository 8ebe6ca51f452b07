"""Baselines that every figure of the model stands beside: majority, k-mers, and a LucaOne head on frozen embeddings."""
