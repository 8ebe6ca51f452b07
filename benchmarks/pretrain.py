"""Our pre-training beside the original's recipe: the same model, data and machine, equal time.

    python benchmarks/pretrain.py --model runs/quickstart/extended --shards runs/quickstart/shards --seconds 120
    python benchmarks/pretrain.py --model ... --shards ... --overhead      # DeepSpeed beside the plain Trainer, one process

Routes, each in a process of its own with one thread, one after another:

    original  documents of the shards with BOS and without EOS, concatenated and cut into blocks of 512 without isolation; all
              logits in float32; LoRA of rank 8 on the seven projections with copies of both vocabulary matrices trained
              in full; alpha 32, dropout 0.05: its run_pt.sh (whose learning rate is 2e-4; `--rate` is that of all routes). On the
              plain Trainer, in float32 or bfloat16 autocast (`--precision`), as its fp16 does not run on a CPU. Its gradient
              checkpointing is left out: that is a matter of memory, and would only slow it down here.
    padded    the same, but line by line: one document per row, padded to 512
    ours      `pretrain` itself, DeepSpeed and log included: packed blocks, isolated documents, loss in chunks; `--train` and
              `--rows` say which weights (default: as the original's)

A useful token has a label that stands in its own document. The clock of a route is the processor's (`--clock cpu`, right
where the machine is shared) or the wall's. Held-out loss is measured by the same code for all: bits per letter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # not this folder: this file would pass for the room `pretrain`
BLOCK = 512
WARM = 2
"""Steps of a run of `--overhead` whose time does not count."""
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}
LORA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def documents(shards: Any, order: Any, bos: int, eos: int) -> Any:
    """Ids of every document in our order of blocks, as the original writes them: BOS before, no EOS behind."""
    for position in range(order.size):
        row = shards[order[position]]
        start = 0
        for length in row["seq_lengths"]:
            ids = [number for number in row["input_ids"][start : start + length] if number not in (bos, eos)]
            yield [bos, *ids]
            start += length


def original_batches(shards: Any, order: Any, tokenizer: Any, padded: bool, batch: int) -> Any:
    """Batches of the original's blocks, and the useful tokens in each."""
    import torch

    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    stream: list[int] = []
    rows: list[list[int]] = []
    while True:  # pass after pass
        for ids in documents(shards, order, bos, eos):
            if padded:
                rows.append(ids[:BLOCK])
            else:
                stream += ids
                while len(stream) >= BLOCK:
                    rows.append(stream[:BLOCK])
                    stream = stream[BLOCK:]
            while len(rows) >= batch:
                part, rows = rows[:batch], rows[batch:]
                ids_BT = torch.full((batch, BLOCK), tokenizer.pad_token_id)
                labels_BT = torch.full((batch, BLOCK), -100)
                for place, row in enumerate(part):
                    ids_BT[place, : len(row)] = labels_BT[place, : len(row)] = torch.tensor(row)
                useful = int(((labels_BT[:, 1:] != -100) & (labels_BT[:, 1:] != bos)).sum())
                yield {"input_ids": ids_BT, "labels": labels_BT, "attention_mask": (ids_BT != tokenizer.pad_token_id).long()}, useful


def heldout_of(options: argparse.Namespace, model: Any) -> dict[str, float]:
    """Bits per letter of every modality."""
    from transformers import AutoTokenizer

    from data_convert.corpus.shards import load_shards
    from pretrain.bits import heldout_bits
    from pretrain.train import first_per_modality
    from tokenizer.private import letterless

    silent = letterless(AutoTokenizer.from_pretrained(options.model).added_tokens_decoder)
    found = heldout_bits(model, first_per_modality(load_shards(options.shards, "heldout"), options.heldout), silent, 4)
    return {name: round(value["bits_per_letter"], 4) for name, value in found.items()}


def theirs(options: argparse.Namespace) -> dict[str, Any]:
    """Train the original's way for the given seconds, then measure. Runs in a process of its own."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from data_convert.corpus.shards import load_shards
    from pretrain.order import BlockOrder, columns
    from pretrain.recipe import Mixture
    from training.loss import score_in_head

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    shards = load_shards(options.shards, "train")
    modalities, tokens, _ = columns(shards)
    order = BlockOrder(modalities, tokens, Mixture(), options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    causal: Any = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    config = LoraConfig(
        r=8, lora_alpha=32, lora_dropout=0.05, target_modules=LORA, modules_to_save=["embed_tokens", "lm_head"],
        ensure_weight_tying=bool(causal.config.tie_word_embeddings), task_type="CAUSAL_LM",
    )  # fmt: skip
    model: Any = get_peft_model(causal, config)
    batches = original_batches(shards, order, tokenizer, options.route == "padded", options.batch)
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(moving, lr=options.rate, weight_decay=0.01, fused=True)
    model.train()
    clock = CLOCKS[options.clock]
    spent: list[float] = []
    counts: list[int] = []
    while sum(spent[1:]) < options.seconds:
        inputs, count = next(batches)
        begun = clock()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        spent.append(clock() - begun)
        counts.append(count)
    peak = peak_mib()
    score_in_head(causal, "chunked")  # to measure by
    return result(options, spent, counts, peak, sum(parameter.numel() for parameter in moving), heldout_of(options, model))


class EnoughError(Exception):
    """The time of a run is over."""


def watched(options: argparse.Namespace, after_step: Any, **more: Any) -> None:
    """Run `pretrain` in this process, with `after_step(trainer)` behind every step."""
    import os

    import torch

    from pretrain.recipe import PretrainRecipe
    from pretrain.train import train
    from pretrain.watch import HeldoutWatch

    torch.set_num_threads(options.threads)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(options.threads)}
    ends = HeldoutWatch.on_step_end

    def on_step_end(self: Any, *args: Any, **kwargs: Any) -> None:
        ends(self, *args, **kwargs)
        after_step(self.trainer)

    HeldoutWatch.on_step_end = on_step_end  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        train(PretrainRecipe(
            model=options.model, shards=options.shards, out=Path(folder) / "out", evaluate_every=10**6, save_every=10**6,
            heldout_blocks=1, english=None, sample_tokens=0, train=options.train, rows=options.rows, precision=options.precision,
            micro_batch=options.batch, seed=options.seed, **more,
        ))  # fmt: skip


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """Train our way for the given seconds, then measure. Runs in a process of its own."""
    import numpy as np

    clock = CLOCKS[options.clock]
    marks: list[float] = [clock()]  # the first step's time does not count
    counts: list[int] = []
    found: dict[str, Any] = {}

    def after_step(trainer: Any) -> None:
        marks.append(clock())
        rows = [trainer.rows[len(counts) * options.batch + place] for place in range(options.batch)]
        counts.append(int(sum(np.sum(row["seq_lengths"]) - len(row["seq_lengths"]) for row in rows)))  # a first token has no label
        if marks[-1] - marks[1] >= options.seconds:
            peak = peak_mib()
            moving = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
            found.update(result(options, np.diff(marks).tolist(), counts, peak, moving, heldout_of(options, trainer.model)))
            raise EnoughError

    with contextlib.suppress(EnoughError):
        watched(options, after_step, steps=10**5, schedule="constant_with_warmup", warmup=0, learning_rate=options.rate, deepspeed="zero1")
    return found


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def result(
    options: argparse.Namespace, spent: list[float], counts: list[int], peak: float, trained: int, bits: dict[str, float]
) -> dict[str, Any]:
    """A line of the table. The first step warms up allocator and threads: neither its time nor its tokens count."""
    return {
        "route": options.route,
        "useful_tokens_per_second": round(sum(counts[1:]) / sum(spent[1:]), 1),
        "seconds": round(sum(spent[1:]), 1),
        "first_step_seconds": round(spent[0], 2),
        "steps": len(counts),
        "useful_tokens": sum(counts[1:]),
        "peak_mib": round(peak),
        "trained_parameters": trained,
        "bits": bits,
    }


def steps_of(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every step of one run of `pretrain`, by both clocks. Runs in a process of its own."""
    marks: list[tuple[float, ...]] = []
    watched(
        options, lambda _: marks.append(tuple(clock() for clock in CLOCKS.values())), steps=options.steps + WARM,
        accumulation=options.accumulation, deepspeed=None if options.way == "plain" else options.way,
    )  # fmt: skip
    return {name: [after[place] - before[place] for before, after in pairwise(marks[WARM - 1 :])] for place, name in enumerate(CLOCKS)}


def overhead(options: argparse.Namespace) -> None:
    """Seconds per step of `pretrain` with and without DeepSpeed, one process, alternating; the first steps are left out."""
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.repeat):
        for way in options.ways:
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            steps = json.loads(done.stdout.splitlines()[-1])
            for clock, seconds in steps.items():
                found.setdefault((way, clock), []).append(statistics.median(seconds))
            print(json.dumps({"way": way} | {clock: round(found[way, clock][-1], 4) for clock in steps}), flush=True)
    for way in options.ways[1:]:
        for clock in ("cpu", "wall"):
            ratios = [one / other - 1 for one, other in zip(found[way, clock], found[options.ways[0], clock], strict=True)]
            print(
                f"{way} over {options.ways[0]}, {clock}: median {statistics.median(ratios):+.1%} of {[round(ratio, 3) for ratio in ratios]}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="extended base")
    parser.add_argument("--shards", type=Path, required=True, help="shards packed with its tokenizer")
    parser.add_argument("--seconds", type=float, default=120, help="of training, per route")
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="blocks of 512 tokens in a step")
    parser.add_argument("--accumulation", type=int, default=1, help="passes in a step of --overhead")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of all routes")
    parser.add_argument("--train", choices=["lora", "all"], default="lora", help="what our route trains")
    parser.add_argument("--rows", choices=["all", "new"], default="all", help="rows of the vocabulary that our route trains")
    parser.add_argument("--rate", type=float, default=2e-4, help="learning rate of all routes; the original's is 2e-4")
    parser.add_argument("--routes", nargs="+", default=["original", "padded", "ours"])
    parser.add_argument("--heldout", type=int, default=16, help="held-out blocks per modality")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--ways", nargs="+", default=["plain", "zero1"], help="plain or configs of configs/deepspeed")
    parser.add_argument("--route", help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    from training.launch import end

    if options.route:
        print(json.dumps(ours(options) if options.route == "ours" else theirs(options)), flush=True)
        end(0)
    if options.way:
        print(json.dumps(steps_of(options)), flush=True)
        end(0)
    if options.overhead:
        overhead(options)
        return
    found = {}
    for name in options.routes:
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--route", name], check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(found[name]), flush=True)
    if {"ours", "original"} <= found.keys():
        ratio = found["ours"]["useful_tokens_per_second"] / found["original"]["useful_tokens_per_second"]
        print(f"ours / original, useful tokens per second: {ratio:.2f}")


if __name__ == "__main__":
    main()
