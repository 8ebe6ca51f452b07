"""Which base an adapter belongs to: by the content of what the adapter is added to, wherever the folder lies."""

from __future__ import annotations

import json
from pathlib import Path

from artefacts.errors import UserError
from artefacts.folder import MANIFEST, fingerprint


def base_fingerprint(model: Path) -> str:
    """Of weights, tokenizer and configuration; a README beside them changes nothing."""
    names = ("config.json", "tokenizer.json")
    return fingerprint(*sorted(model.glob("*.safetensors")), *(model / name for name in names if (model / name).is_file()))


def check_base(adapter: Path, model: Path) -> None:
    """Refuse an adapter that was trained on another base, before weights are loaded.

    Adapters without our manifest say their base by name only; their names and shapes are checked when they are loaded.

    Raises:
        UserError: another base.
    """
    manifest = adapter / MANIFEST
    if not manifest.is_file():
        return
    found = json.loads(manifest.read_text(encoding="utf-8"))
    wanted, own = found.get("inputs", {}).get("model"), base_fingerprint(model)
    if wanted != own:
        raise UserError(
            f"{adapter}: trained on another base than {model}: on one with fingerprint {wanted} "
            f"({found.get('recipe', {}).get('model')}), this one has {own}; give that one, or tune this base anew"
        )
