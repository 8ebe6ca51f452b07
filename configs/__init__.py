"""Every recipe, model size, DeepSpeed config, chat template and task card, as YAML, JSON or Jinja; no code."""

from pathlib import Path

CONFIGS = Path(__file__).parent
