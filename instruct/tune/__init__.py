"""Instruction tuning: records in, adapter or model folder out; merging and export of the result."""
