"""A finished model for others: `llama-gene export`. Sharded safetensors with a model card, and GGUF where llama.cpp's converter is."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field

from artefacts.errors import UserError, ensure
from artefacts.folder import check_absent, new_folder, write_manifest
from artefacts.recipe import Recipe
from eval.ask.subjects import check_subject, located
from eval.recipe import Subject
from instruct.tune.base import base_fingerprint
from instruct.tune.model_readme import write_export_readme
from tokenizer.generation import load_causal
from tokenizer.saving import carry_tokenizer

CONVERTER = "convert_hf_to_gguf.py"


class ExportRecipe(Recipe):
    """Write a finished model for others."""

    model: Path
    """Model folder of `merge`, `pretrain`, or `instruct` with train=all; also a base as `tokenizer extend` takes it: GGUF, hub id."""
    out: Path
    max_shard: str = Field("5GB", pattern=r"^[0-9.]+[KMG]B$")
    """Largest weight file, such as 5GB."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numbers of the weights; auto keeps those of the model. bfloat16 halves a folder and rounds answers' scores."""
    gguf: str | None = None
    """Also write model.gguf, of this type of llama.cpp's converter (f16, bf16, q8_0, …); text must be mapped before (docs/gguf.md)."""
    llama_cpp: Path | None = None
    """Checkout of llama.cpp that holds the converter; null looks for convert_hf_to_gguf.py on the PATH."""
    sentencepiece_model: Path | None = None
    """For GGUF of SentencePiece bases: the base's own tokenizer.model."""


def export(recipe: ExportRecipe, *, overwrite: bool = False) -> None:
    """Write the folder. Every tensor is read back and compared.

    Raises:
        UserError: no model, existing output, no converter where GGUF is asked for, what the converter printed when it failed.
    """
    check_absent(recipe.out, overwrite)
    check_subject(Subject(model=recipe.model))
    found = located(recipe.model)
    converter = find_converter(recipe.llama_cpp) if recipe.gguf is not None else None
    import torch

    model = load_causal(found, dtype=recipe.dtype)
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        model.save_pretrained(folder, max_shard_size=recipe.max_shard)
        carry_tokenizer(found, folder)
        written = load_causal(folder, dtype="auto").state_dict()
        for name, tensor in model.state_dict().items():  # savers have renamed weights before, silently
            ensure(torch.equal(tensor, written[name]), f"{name} was not written as it was read")
        if converter is not None:
            convert(recipe.model_copy(update={"model": found}), converter, folder / "model.gguf")
        parameters = sum(parameter.numel() for parameter in model.parameters())
        write_export_readme(folder, found, recipe.out.name, parameters)
        write_manifest(
            folder,
            "exported",
            recipe=recipe.model_dump(mode="json"),
            inputs={"model": base_fingerprint(found)},
            counts={"parameters": parameters, "weight_files": len(list(folder.glob("*.safetensors")))},
        )


def find_converter(llama_cpp: Path | None) -> Path:
    """llama.cpp's converter. Raises UserError where it is not."""
    found = llama_cpp / CONVERTER if llama_cpp is not None else Path(shutil.which(CONVERTER) or CONVERTER)
    if not found.is_file():
        raise UserError(
            f"{found}: llama.cpp's converter is not here; clone llama.cpp, install its requirements, and give llama_cpp=FOLDER, "
            "or leave gguf out"
        )
    return found


def convert(recipe: ExportRecipe, converter: Path, out: Path) -> None:
    """model.gguf, by llama.cpp's converter from a folder that it can read."""
    from tokenizer.gguf import Gguf, export_for_gguf

    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        ready = Path(folder) / "for-gguf"
        export_for_gguf(Gguf(model=recipe.model, out=ready, sentencepiece_model=recipe.sentencepiece_model))
        command = [sys.executable, str(converter), str(ready), "--outfile", str(out), "--outtype", str(recipe.gguf)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not out.is_file():
        last = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise UserError(f"{converter}: ended with {done.returncode} and wrote no file: {last}")
