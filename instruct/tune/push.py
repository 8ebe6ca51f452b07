"""A finished artefact onto the Hugging Face hub: `llama-gene push`. Model, adapter, tokenizer, records or shards, told by its files.

The card is the folder's README.md with the hub's metadata in front: licence, library, base model, tags, and the figures of a
metrics.json as the hub's evaluation results. The folder itself stays as it is.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from artefacts.errors import UserError
from artefacts.folder import MANIFEST, in_bytes, read_json, read_noted
from artefacts.hub import PICKLES
from artefacts.recipe import Recipe
from instruct.tune.model_readme import for_others

KINDS = {
    "adapter": ("model", ("adapter_config.json", "adapter_model.safetensors")),
    "model": ("model", ("config.json", "*.safetensors")),
    "records": ("dataset", ("cards.json", "*.jsonl")),
    "shards": ("dataset", ("train/*/*.arrow", "manifest.json")),
    "tokenizer": ("model", ("tokenizer.json",)),
}
"""What can be pushed -> the kind of its repository, and files that it has. The first that fits counts."""
LIBRARIES = {"adapter": "peft", "model": "transformers", "tokenizer": "transformers"}


class PushRecipe(Recipe):
    """Put a finished model, adapter, tokenizer, records or shards on the Hugging Face hub, with a card. Needs `hf auth login`."""

    folder: Path
    to: str = Field(pattern=r"^[\w-][\w.-]*/[\w-][\w.-]*$")
    """The repository, ORG/NAME; it is made where it is not there."""
    licence: str | None = None
    """As the hub names it, such as apache-2.0 or llama3.2; null: that of the folder's card, or the one licence of all records."""
    private: bool = False
    """Of a repository that is made."""
    metrics: Path | None = None
    """metrics.json of `eval score`, whose figures go into the card's metadata."""
    system: str | None = None
    """Which of its systems this is; null: the only one."""
    message: str = "Pushed by llama-gene"


def push(recipe: PushRecipe) -> None:
    """Make the repository where it is not there, and one commit of all files.

    Raises:
        UserError: a folder of none of `KINDS`; pickles in it; no licence; a system that is not in the metrics; what the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    kind, files = inspected(recipe.folder)
    card = card_of(recipe, kind)
    repository, api = KINDS[kind][0], HfApi()
    try:
        api.create_repo(recipe.to, repo_type=repository, private=recipe.private or None, exist_ok=True)
        done = api.create_commit(
            recipe.to,
            [
                CommitOperationAdd("README.md", card.encode()),
                *(CommitOperationAdd(str(file.relative_to(recipe.folder)), _content(file)) for file in files),
            ],
            commit_message=recipe.message,
            repo_type=repository,
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        raise UserError(
            f"{recipe.to}: the hub did not take it ({' '.join(str(error).split())[:300]}); `hf auth login`, or another name"
        ) from None
    print(f"{kind}: {len(files) + 1} files at {done.commit_url}")


def preview(recipe: PushRecipe) -> None:
    """What `--dry-run` shows: every file and the card. Nothing is sent."""
    kind, files = inspected(recipe.folder)
    print(f"{kind}, to the {KINDS[kind][0]} repository {recipe.to}{' (private)' if recipe.private else ''}:")
    for file in files:
        print(f"  {file.relative_to(recipe.folder)}  {in_bytes(file.stat().st_size)}")
    print(f"README.md:\n{card_of(recipe, kind)}")


def inspected(folder: Path) -> tuple[str, list[Path]]:
    """What a folder holds, and its files but for README.md, which is written anew, and hidden ones.

    Raises:
        UserError: none of `KINDS`; pickles, which nobody should have to trust.
    """
    kind = next((name for name, (_, files) in KINDS.items() if all(any(folder.glob(file)) for file in files)), None)
    if kind is None:
        raise UserError(f"{folder}: none of {', '.join(KINDS)}; give the finished folder of a command")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "README.md")
    if pickles := [path for path in files if any(path.match(pattern) for pattern in PICKLES)]:
        raise UserError(f"{pickles[0]}: a pickle, which is not published; give a finished folder, `llama-gene export` writes one")
    return kind, [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _content(file: Path) -> str | bytes:
    """The file's path, or a manifest as others may see it."""
    if file.name != MANIFEST:
        return str(file)
    return json.dumps(for_others(read_json(file, "make the folder again", dict)), ensure_ascii=False, indent=1).encode()


def card_of(recipe: PushRecipe, kind: str) -> str:
    """README.md with its metadata, existing ones kept where nothing else is known."""
    path = recipe.folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {recipe.to.partition('/')[2]}\n\nMade by llama-gene ({kind}).\n"
    front: dict[str, Any] = {}
    body = text
    if text.startswith("---\n") and "\n---" in text[4:]:
        head, _, body = text[4:].partition("\n---")
        front = yaml.safe_load(head) or {}
    front["license"] = licence = recipe.licence or front.get("license") or _of_records(recipe.folder)
    if licence is None:
        raise UserError(f"{recipe.folder}: no licence is known, and nothing is published without one; give licence=, such as apache-2.0")
    front["tags"] = list(dict.fromkeys([*front.get("tags", []), "llama-gene", kind]))
    if kind in LIBRARIES:
        front["library_name"] = LIBRARIES[kind]
    base = (read_noted(recipe.folder / "adapter_config.json") or {}).get("base_model_name_or_path")
    pins = (read_noted(recipe.folder / "manifest.json") or {}).get("hub", {})
    if known := [*pins] or ([base] if base and not Path(base).is_absolute() and base.count("/") == 1 else []):
        front["base_model"] = known[0]
    if recipe.metrics is not None:
        front["model-index"] = [{"name": recipe.to.partition("/")[2], "results": results(recipe.metrics, recipe.system)}]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n{body.lstrip()}"


def _of_records(folder: Path) -> str | None:
    """The one licence of all tasks of a records folder; `other` where they differ, as the card says then."""
    file = folder / "cards.json"
    if not file.is_file():
        return None
    found = {(card["source"].get("licence") or "").lower() for card in json.loads(file.read_text(encoding="utf-8"))}
    return found.pop() if len(found) == 1 and found != {""} else "other"


def results(metrics: Path, system: str | None) -> list[dict[str, Any]]:
    """A system's figures as the hub's `model-index` has them: a task each, its metrics with their 95 % intervals.

    Raises:
        UserError: several systems and none is named, or one that is not there.
    """
    tasks = read_json(metrics, "make it with `llama-gene eval score`", dict)["tasks"]
    known = list(dict.fromkeys(name for task in tasks for name in task["systems"]))
    if system is None and len(known) == 1:
        system = known[0]
    if system not in known:
        raise UserError(f"{metrics}: system={system} is none of {', '.join(known)}; name the one that this folder is")
    found = []
    for task in tasks:
        if own := task["systems"].get(system):
            values = [
                {"type": name, "value": value["value"], "args": {"low": value["low"], "high": value["high"]}}
                for name, value in own["metrics"].items()
            ]
            data = {"name": task["title"], "type": task["task"], "split": task["split"], "args": {"n": task["n"]}}
            found.append({"task": {"type": "text-generation"}, "dataset": data, "metrics": values})
    return found
