"""Which base an adapter belongs to: by the content of what the adapter is added to, wherever the folder lies."""

import hashlib
import json
from pathlib import Path

from artefacts.errors import UserError
from artefacts.folder import MANIFEST, noted_part

NOTES = ("transformers_version", "dtype", "torch_dtype", "_name_or_path", "truncation", "padding")
"""Keys of a configuration or a tokenizer.json that make no other model: who wrote it, and what the weights themselves say."""


def base_fingerprint(model: Path) -> str:
    """SHA-256 (16 hex digits) of weights, configuration and tokenizer as they are read: into which files, and in which order, they
    were written changes nothing, nor does a README beside them.

    Raises:
        UserError: a damaged safetensors file.
    """
    from transformers import AutoConfig  # torch with it, once an input is known to be there

    from tokenizer.weights import CHUNK, read_header

    digest = hashlib.sha256()
    tensors = {name: tensor for path in model.glob("*.safetensors") for name, tensor in read_header(path)[0].items()}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
        with tensor.file.open("rb") as handle:
            handle.seek(tensor.start)
            for start in range(0, tensor.size, CHUNK):
                digest.update(handle.read(min(CHUNK, tensor.size - start)))
    tokenizer = model / "tokenizer.json"
    for document in (
        AutoConfig.from_pretrained(model).to_dict() if (model / "config.json").is_file() else {},
        json.loads(tokenizer.read_text(encoding="utf-8")) if tokenizer.is_file() else {},
    ):
        kept = {name: value for name, value in document.items() if name not in NOTES}
        digest.update(json.dumps(kept, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def check_base(adapter: Path, model: Path) -> None:
    """Refuse an adapter that was trained on another base, before weights are loaded.

    Adapters without our manifest say their base by name only; their names and shapes are checked when they are loaded.

    Raises:
        UserError: another base.
    """
    manifest = adapter / MANIFEST
    if not manifest.is_file():
        return
    wanted, own = noted_part(adapter, "inputs").get("model"), base_fingerprint(model)
    if wanted != own:
        raise UserError(
            f"{adapter}: trained on another base than {model}: on one with fingerprint {wanted} "
            f"({noted_part(adapter, 'recipe').get('model')}), this one has {own}; give that one, or tune this base anew"
        )
