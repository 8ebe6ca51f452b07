"""The embedded default: a simulated organism, drawn from a seed, whose tasks have answers known by construction."""
