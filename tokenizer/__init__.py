"""Alphabets, gene BPE training, and extending a base LLaMA with them (tokenizer and embedding rows)."""
