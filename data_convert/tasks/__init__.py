"""Benchmarks become instruction records: task cards, their files, the records written and read back."""
