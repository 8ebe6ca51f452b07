"""LucaOne's downstream networks on frozen embeddings: LucaBase (one sequence), LucaPPI and LucaPPI2 (pairs)."""
