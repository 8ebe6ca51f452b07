"""Instruction tuning beside the original's recipe: samples per second and peak memory, same model, records and adapters.

    python benchmarks/instruct.py --model runs/quickstart/pretrained --records runs/quickstart/records

Routes, each in a process of its own; both train LoRA (r 8, alpha 32, dropout 0.05, seven targets) and both vocabulary matrices,
AdamW, one optimiser step for every 32 records:
    one       the original's rows, each padded to 512 tokens and cut there, one prompt in a forward pass; logits of all positions
    original  the same, 32 prompts in a forward pass, as its script has it
    ours      `llama-gene instruct` itself: rows as long as the longest in the batch, logits of the answers alone
    packed    the same with whole records packed into rows of 512

The first steps of a route are left out. Processor seconds are the clock (`--clock wall` for the other), right where cores are shared.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # not this folder: this file would pass for the room `instruct`
LENGTH = 512
STEP = 32
"""Records of an optimiser step."""
WARM = 2
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def theirs(options: argparse.Namespace) -> list[tuple[float, int]]:
    """(seconds, records) of each step of the original's recipe."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from artefacts.errors import Ledger
    from instruct.tune.encode import encode
    from instruct.tune.rows import order_of

    encoded = encode(AutoTokenizer.from_pretrained(options.model), options.records / "train.jsonl", 10**6, Ledger())
    order = order_of(encoded.tasks, False, options.seed)
    config = LoraConfig(
        r=8, lora_alpha=32, lora_dropout=0.05, target_modules=TARGETS, modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"
    )
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32), config)
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(moving, lr=1e-4, fused=True)
    at_once = 1 if options.route == "one" else STEP
    model.train()
    clock, found = CLOCKS[options.clock], []
    for step in range(options.steps + WARM):
        begun = clock()
        for start in range(0, STEP, at_once):
            ids_BT = torch.zeros(at_once, LENGTH, dtype=torch.long)
            labels_BT, mask_BT = torch.full_like(ids_BT, -100), torch.zeros_like(ids_BT)
            for row in range(at_once):
                record = order[step * STEP + start + row]
                ids = torch.tensor(encoded.ids[record][:LENGTH].astype("int64"))
                ids_BT[row, : len(ids)], mask_BT[row, : len(ids)] = ids, 1
                labels_BT[row, encoded.starts[record] : len(ids)] = ids[encoded.starts[record] :]
            loss = model(input_ids=ids_BT, labels=labels_BT, attention_mask=mask_BT, use_cache=False).loss
            (loss * at_once / STEP).backward()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        found.append((clock() - begun, STEP))
    return found[WARM:]


def ours(options: argparse.Namespace) -> list[tuple[float, int]]:
    """The same of `instruct`; a step of packed rows holds about as many records."""
    from instruct.tune.recipe import InstructRecipe
    from instruct.tune.tune import tune
    from instruct.tune.watch import DevWatch

    marks: list[tuple[float, int]] = []
    clock, ends = CLOCKS[options.clock], DevWatch.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, *more: Any, **named: Any) -> None:
        step, rows = state.global_step, self.trainer.rows
        marks.append((clock(), sum(rows.consumed(step * self.trainer.rows_per_step).values())))
        ends(self, args, state, *more, **named)

    DevWatch.on_step_end = on_step_end  # type: ignore[method-assign]
    packing = options.route == "packed"
    micro = max(1, STEP * options.mean_tokens // LENGTH) if packing else STEP
    with tempfile.TemporaryDirectory() as folder:
        tune(
            InstructRecipe(
                model=options.model, records=options.records, out=Path(folder) / "out", steps=options.steps + WARM, micro_batch=micro,
                packing=packing, max_tokens=LENGTH, rows="all", learning_rate=1e-4, evaluate_every=10**6, save_every=10**6, dev_records=1,
                seed=options.seed,
            )
        )  # fmt: skip
    return [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(marks[WARM - 1 :])]


CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


def route(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(options.threads)
    steps = (theirs if options.route in ("one", "original") else ours)(options)
    seconds, records = (sum(part) for part in zip(*steps, strict=True))
    return {
        "route": options.route,
        "samples_per_second": round(records / seconds, 2),
        "seconds": round(seconds, 1),
        "records": records,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="extended or pre-trained base")
    parser.add_argument("--records", type=Path, required=True, help="instruction records")
    parser.add_argument("--steps", type=int, default=6, help="steps of 32 records that count, per route")
    parser.add_argument("--mean-tokens", type=int, default=80, help="tokens of a record, for as many of them in a packed step")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--routes", nargs="+", default=["one", "original", "ours", "packed"])
    parser.add_argument("--route", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.route:
        print(json.dumps(route(options)))
        return
    found = {}
    for name in options.routes:
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--route", name], check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(found[name]), flush=True)
    for mine in ("ours", "packed"):
        for other in ("one", "original"):
            if {mine, other} <= found.keys():
                ratio = found[mine]["samples_per_second"] / found[other]["samples_per_second"]
                memory = found[other]["peak_mib"] / found[mine]["peak_mib"]
                print(f"{mine} / {other}: {ratio:.1f} times the samples per second; {other} took {memory:.2f} times the memory")


if __name__ == "__main__":
    main()
