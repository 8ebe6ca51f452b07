"""Leakage between splits, and splits without it: `llama-gene convert audit` (docs/splits.md)."""
