"""Lines of text that a careless extension breaks: a built-in probe, so that every extension is tried without any file."""

from __future__ import annotations

import re

import yaml

from configs import CONFIGS

CAPITALS = re.compile(r"\b[A-Z]{2,}\b")
"""A word in capitals, which pieces over A–Z are most likely to disturb."""


def probe_lines() -> list[str]:
    """A few hundred lines: gene symbols, capitals, code, scripts, blanks, tags mentioned in prose; no span, no private-use character."""
    probe = yaml.safe_load((CONFIGS / "tokenizer" / "probe.yaml").read_text(encoding="utf-8"))
    words = f"{probe['genes']} {probe['words']}".split()
    return [*(frame.format(word, word, word) for word in words for frame in probe["frames"]), *probe["others"]]
