"""Sequences drawn from a model: `llama-gene generate`."""
