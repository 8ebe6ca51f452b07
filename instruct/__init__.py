"""LoRA instruction tuning, merging, and chat in the terminal."""
