"""Judging: what answers are worth. Strict parsing, metrics, bootstrap intervals, and `metrics.json`."""
