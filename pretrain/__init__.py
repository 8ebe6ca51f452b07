"""Continued pre-training of an extended base on token shards, launched by DeepSpeed."""
