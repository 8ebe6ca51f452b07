"""Continued pre-training: blocks of token shards -> the Hugging Face `Trainer` on DeepSpeed -> model folder."""

import hashlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from artefacts.errors import UserError
from artefacts.folder import MANIFEST, check_absent, check_room, fingerprint, read_manifest
from artefacts.recipe import dump
from data_convert.corpus.shards import load_shards
from pretrain.bits import count_parts, english_blocks, name_sources
from pretrain.order import BlockOrder, OrderedBlocks, Stretch, columns, unlearnt_ids
from pretrain.recipe import PretrainRecipe
from pretrain.stages import extend_context, planned, table, theta_at
from pretrain.trainer import GeneTrainer
from pretrain.watch import HeldoutWatch
from tokenizer.private import letterless
from training import run as training_run
from training.checkpoints import world_size
from training.estimate import checkpoint_bytes, sizes_of
from training.model import size
from training.model_readme import BITS, as_yaml, bits_rows, write_readme
from training.model_readme import table as markdown_table
from training.recipe import accumulation_of
from training.run import Job


def train(recipe: PretrainRecipe, *, overwrite: bool = False) -> None:
    """Train, measure held-out bits before and after, write the model folder with losses.json.

    Raises:
        UserError: what `PretrainJob` and `training.run.run` refuse; existing output.
        SystemExit: asked to stop: a checkpoint is saved.
    """
    check_absent(recipe.out, overwrite)
    training_run.run(PretrainJob(recipe, world_size()), overwrite)


def preview(recipe: PretrainRecipe) -> None:
    """What `--dry-run` shows."""
    folders = dict.fromkeys([recipe.shards, *(stage.shards for stage in recipe.stages if stage.shards)])
    inputs = [recipe.model / "tokenizer.json", *(folder / MANIFEST for folder in folders)]
    if not recipe.stages or all(path.is_file() for path in inputs):
        training_run.preview(recipe, inputs, "model or shards", PretrainJob)
        return
    ranks, block_tokens, count = recipe.ranks * recipe.nodes, recipe.planned.block_tokens, len(recipe.stages)
    per_step = [recipe.micro_batch * accumulation_of(recipe, ranks) * ranks * block_tokens] * count
    recipe = planned(recipe, per_step)
    training_run.preview(recipe, inputs, "model or shards", PretrainJob)
    # of blocks that are not there, shares alone are known: so many in a million
    shares = [stage.share or recipe.mixture.share or {"all": 1.0} for stage in recipe.stages]
    blocks = [{name: round(1e6 * part / sum(share.values())) for name, part in share.items()} for share in shares]
    print(table(recipe, [block_tokens] * count, per_step, blocks, [{}] * count))


class PretrainJob(Job):
    """The blocks of a run, the held-out blocks that watch it, and losses.json."""

    trainer = GeneTrainer
    watch: HeldoutWatch

    def __init__(self, recipe: PretrainRecipe, ranks: int) -> None:
        """
        Raises:
            UserError: what `Job` refuses; shards of another tokenizer, documents beyond the model's context, no disk for
                the checkpoints, a mixture that the shards cannot give, no English text.
        """
        folders = [stage.shards or recipe.shards for stage in recipe.stages] or [recipe.shards]
        shards = {folder: load_shards(folder, "train", recipe.model) for folder in dict.fromkeys(folders)}
        super().__init__(recipe, ranks)
        sizes = [len(shards[folder][0]["input_ids"]) for folder in folders]
        per_step = [self.rows_per_step * tokens for tokens in sizes]
        if recipe.stages:
            self.recipe = recipe = planned(recipe, per_step)
        # what would fail late
        there, keep = len(list(recipe.work.glob("checkpoint-*"))), recipe.keep_checkpoints
        needed = max(1, keep + 1 - there) * checkpoint_bytes(sizes_of(self.config), recipe)
        check_room(recipe.out, needed, f"{keep} checkpoints and the one being written need", "make room, or lower keep_checkpoints")
        # the blocks of the run: a stage goes on in the shards where the last one with these stopped
        stretches, start = list[Stretch](), 0
        read: dict[Path, Counter[str]] = {folder: Counter() for folder in folders}
        known = {folder: columns(found) for folder, found in shards.items()}
        passes = []
        for number, (folder, block_tokens) in enumerate(zip(folders, sizes, strict=True)):
            modalities, tokens, longest = known[folder]
            stage = recipe.stages[number] if recipe.stages else None
            if theta_at(recipe, number) is None:
                check_context(self.config, int(longest.max()), folder)
            mixture = recipe.mixture.model_copy(update={"share": stage.share}) if stage and stage.share else recipe.mixture
            order = BlockOrder(modalities, tokens, mixture, recipe.seed, read[folder])
            whole = max(1, math.ceil(recipe.epochs * order.size / self.rows_per_step - 1e-9))
            count = self.rows_per_step * ((stage.steps if stage else recipe.steps) or whole)
            stretches.append(Stretch(start, shards[folder], order, block_tokens))
            read[folder].update(order.consumed(count))
            passes.append({name: read[folder][name] / len(rows) for name, rows in order.rows.items()})
            start += count
        self.steps = start // self.rows_per_step
        self.rows = OrderedBlocks(stretches, start, unlearnt_ids(recipe.model, list(recipe.no_loss_on)))
        # the blocks that are measured
        self.heldout = first_per_modality(load_shards(recipe.shards, "heldout", recipe.model), recipe.heldout_blocks)
        name_sources(self.heldout, read_manifest(recipe.shards)["counts"].get("files"))
        count_parts(self.heldout, self.tokenizer)
        self.row_tokens = max(sizes)
        if recipe.english is not None:
            self.heldout += english_blocks(self.tokenizer, recipe.english, len(self.heldout[0]["input_ids"]))
        self.watch = HeldoutWatch(recipe, self.heldout, letterless(self.tokenizer.added_tokens_decoder), self.tokenizer)
        plan = "an epoch: " + ", ".join(f"{count:,} blocks of {name}" for name, count in stretches[0].order.quota.items())
        if recipe.stages:
            blocks = [
                one.order.consumed((stage.steps or 0) * self.rows_per_step) for one, stage in zip(stretches, recipe.stages, strict=True)
            ]
            plan = table(recipe, sizes, per_step, blocks, passes)
        self.summary = f"{plan}\none training block, [tokens without loss] in brackets:"

    def write(self, folder: Path, trainer: Any) -> dict[str, Any]:
        """losses.json and README.md; the rotary base of the last stage where adapters were merged into the base as it was."""
        recipe = self.recipe
        measurements = [line["heldout"] for line in trainer.state.log_history if "heldout" in line]
        blocks = trainer.state.global_step * trainer.rows_per_step
        parameters = list(trainer.model.parameters())
        losses = {
            "before": measurements[0],
            "after": measurements[-1],
            "tokens": sum(self.rows.room_between(0, blocks).values()),
            "blocks": self.rows.consumed(blocks),
            "steps": trainer.state.global_step,
            "seconds": round(self.watch.seconds, 1),
            "parameters": sum(map(size, parameters)),
            "trained": sum(size(parameter) for parameter in parameters if parameter.requires_grad),
            "heldout_blocks_per_modality": recipe.heldout_blocks,
            "seed": recipe.seed,
        }
        (folder / "losses.json").write_text(json.dumps(losses, indent=1) + "\n", encoding="utf-8")
        if theta := theta_at(recipe, len(recipe.stages)):
            config = AutoConfig.from_pretrained(folder)
            extend_context(config, theta, trainer.model.config.max_position_embeddings)
            config.save_pretrained(folder)
        write_readme(folder, recipe.out.name, *self._readme(losses))
        # what the shards were made of, by digests, and how: nobody reads a corpus again
        made = {name: value for name, value in read_manifest(recipe.shards).items() if name in ("recipe", "inputs", "counts")}
        shards = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
        return {
            "stage": "pretrained",
            "inputs": {"model": fingerprint(recipe.model), "shards": shards},
            "counts": {name: losses[name] for name in ("tokens", "steps", "parameters", "trained", "blocks")},
        }

    def _readme(self, losses: dict[str, Any]) -> tuple[str, list[tuple[str, list[str]]]]:
        """Introduction and sections."""
        recipe, packed = self.recipe, read_manifest(self.recipe.shards, "shards")
        data = [(name, f"{losses['blocks'].get(name, 0):,}", f"{each['blocks']:,}") for name, each in packed["counts"]["train"].items()]
        introduction = (
            f"Continued pre-training of an extended LLaMA: {losses['parameters']:,} parameters, {losses['trained']:,} trained "
            f"(train: {recipe.train}, rows: {recipe.rows}), {losses['steps']:,} steps, {losses['tokens']:,} tokens with padding."
        )
        measured = (
            f"Bits per letter on {recipe.heldout_blocks} held-out blocks per modality, one run, seed {recipe.seed}. Tags and "
            "ends of documents do not count. `english` is a fixed text that was never trained on."
        )
        origin = (
            f"Shards packed {packed['created'][:10]} with tokenizer {packed['inputs']['tokenizer'][:12]}; fingerprints: `manifest.json`."
        )
        return introduction, [
            ("Held-out loss", [measured, "", *markdown_table(BITS, bits_rows(losses))]),
            ("Data", [*markdown_table(("modality", "blocks trained", "blocks in the shards"), data), "", origin]),
            ("Recipe", as_yaml(dump(recipe))),
        ]


def check_context(config: Any, longest: int, path: Path) -> None:
    """Refuse a document longer than the model's context. Blocks may be longer: positions begin anew at every document."""
    context = config.max_position_embeddings
    if longest > context:
        raise UserError(
            f"{path}: the longest document has {longest} tokens, the model's context is {context}; pack again "
            f"with block_tokens={context} or smaller windows"
        )


def first_per_modality(heldout: Any, blocks: int) -> list[dict[str, Any]]:
    """The first so many blocks of every modality."""
    taken: dict[str, int] = {}
    rows = []
    for index, modality in enumerate(heldout["modality"]):
        if taken.get(modality, 0) < blocks:
            taken[modality] = taken.get(modality, 0) + 1
            rows.append(heldout[index])
    return rows
