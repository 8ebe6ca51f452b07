"""Items per second of `eval predict` against the original's way: one question at a time, `generate`, 8 new tokens.

    python benchmarks/eval.py                                  # the quickstart's shape, random weights, 2 and 100 labels
    python benchmarks/eval.py --labels 100 --train 300 --prune-nats 20      # a model that has learnt its labels
    python benchmarks/eval.py --hidden 2048 --layers 16 --heads 32 --kv-heads 8 --vocab 128256 --dtype bfloat16

Both ways ask the same model with the same prompts, which are read once before the clock starts. Ours gives the likelihood of
every whole label and the greedy text; the original's gives 8 tokens of text. Ours is checked against the naive way on some
of the items: every label read separately behind its prompt, the likeliest taken. A random model never says a label, so its
greedy text is the dearest there is; `--no-greedy` leaves it out, as early stopping does. With `--train` the model is first
trained so many steps on prompts whose last token tells which label is the answer (of `--noise` of them another one is given),
since what pruning saves depends on how sure the model is; the items are prompts of the same kind that it has not seen.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # not this folder: this file would pass for the room `eval`


def measured(work: Callable[[], Any], device: str) -> tuple[float, float, Any]:
    """Wall seconds, processor seconds, result."""
    import torch

    before, start = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), time.perf_counter()
    result = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - before, result


class Plain:
    """What predicting asks of a tokenizer, without one: prompts and labels are ids already."""

    pad_token_id = 0

    def batch_decode(self, rows: list[list[int]], skip_special_tokens: bool) -> list[str]:
        return [" ".join(map(str, row)) for row in rows]


def trained(model: Any, prompt: Callable[[int], list[int]], labels: list[list[int]], steps: int, noise: float) -> float:
    """Teach the model the label that each prompt asks for. Returns the mean loss of the last ten steps, nats per token."""
    import torch

    from eval.ask.likelihood import left_padded

    device, draw, losses = next(model.parameters()).device, random.Random(1), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        told = [draw.randrange(len(labels)) for _ in range(32)]
        given = [draw.choice(labels) if draw.random() < noise else labels[which] for which in told]
        rows = [[*prompt(which), *label] for which, label in zip(told, given, strict=True)]
        ids, mask = left_padded(rows, 0)
        counts = torch.tensor([len(label) for label in given])
        answer = torch.arange(ids.shape[1]) >= ids.shape[1] - counts[:, None]
        targets = ids.masked_fill(~answer, -100)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        loss = model(*(part.to(device) for part in (ids, mask, places)), labels=targets.to(device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return sum(losses[-10:]) / len(losses[-10:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("hidden", 128), ("layers", 4), ("heads", 4), ("kv-heads", 2), ("vocab", 2048), ("prompt", 60), ("shared", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--items", type=int, default=256)
    parser.add_argument("--one-by-one", type=int, default=32, help="items asked the original's way")
    parser.add_argument("--naive", type=int, default=8, help="items whose labels are all read separately")
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--labels", type=int, nargs="+", default=[2, 100])
    parser.add_argument("--label-tokens", type=int, nargs=2, default=(1, 3), help="range, the end-of-turn token not counted")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--no-greedy", action="store_true")
    parser.add_argument("--train", type=int, default=0, help="steps of 32 answers; 0 leaves the model random")
    parser.add_argument("--noise", type=float, default=0.0, help="share of the training answers that are any label")
    parser.add_argument("--prune-nats", type=float, nargs="+", default=[0.0], help="margins; 0 reads every label")
    options = parser.parse_args()
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from eval.ask.likelihood import answered, separately

    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=options.vocab,
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 11 // 4,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads,
        initializer_range=0.05,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.device(device):
        model: Any = LlamaForCausalLM(config).to(getattr(torch, options.dtype)).eval()
    draw = random.Random(0)
    ids = range(2, options.vocab)
    question, least = draw.choices(ids, k=options.shared), options.prompt * 3 // 4 - options.shared

    def prompt(which: int) -> list[int]:
        return [*question, *draw.choices(ids, k=draw.randint(least, least + options.prompt // 2) - 1), 2 + which]

    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {options.dtype}, {device}, threads {torch.get_num_threads()}"
    )
    print(f"{options.items} prompts of {options.prompt} tokens on average, {options.shared} of them shared; {options.label_tokens} a name")
    print("\n| labels | way | items | items/s | processor s per item | times the original's |\n|---|---|---|---|---|---|")
    for count in options.labels:
        shared = [draw.choices(ids, k=2) for _ in range(max(1, count // 5))]  # families of names begin alike
        labels = [
            [*draw.choice(shared), *draw.choices(ids, k=draw.randint(*options.label_tokens))][-options.label_tokens[1] :]
            for _ in range(count)
        ]
        labels = [[*label, 1] for label in labels]
        inner = len({tuple(label[:n]) for label in labels for n in range(1, len(label))})
        room = max(map(len, labels)) + 4
        if options.train:
            loss = trained(model, prompt, labels, options.train, options.noise)
            print(f"| {count} | trained {options.train} steps, noise {options.noise}: loss {loss:.3f} nats a token | | | | |")
        told = [draw.randrange(count) for _ in range(options.items)]
        prompts, told = map(list, zip(*sorted(((prompt(which), which) for which in told), key=lambda pair: len(pair[0])), strict=True))

        def ours(nats: float, prompts: Any = prompts, labels: Any = labels, inner: int = inner, room: int = room) -> list[list[float]]:
            rows: list[list[float]] = []
            start = 0
            while start < len(prompts):
                end = start + 1
                while end < len(prompts) and (end + 1 - start) * (len(prompts[end]) + inner) <= options.batch_tokens:
                    end += 1
                rows += answered(model, Plain(), prompts[start:end], labels, room, not options.no_greedy, nats or None)[0] or []
                start = end
            return rows

        def original(prompts: Any = prompts) -> None:
            for index in range(options.one_by_one):
                row = torch.tensor([prompts[index * options.items // options.one_by_one]], device=device)
                model.generate(input_ids=row, attention_mask=torch.ones_like(row), do_sample=False, max_new_tokens=8, min_new_tokens=8)

        answered(model, Plain(), prompts[:4], labels, room)  # first calls allocate what stays
        original_wall, original_cpu, _ = measured(original, device)
        base = options.one_by_one / original_wall
        some = [index * options.items // options.naive for index in range(options.naive)]
        with torch.no_grad():
            naive_wall, naive_cpu, naive = measured(
                lambda labels=labels, some=some, prompts=prompts: separately(model, [prompts[i] for i in some], labels, 0), device
            )

        def row(way: str, items: int, seconds: float, used: float, count: int = count, base: float = base) -> None:
            print(f"| {count} | {way} | {items} | {items / seconds:.1f} | {used / items:.4f} | {items / seconds / base:.1f} |", flush=True)

        row("one by one, generate 8", options.one_by_one, original_wall, original_cpu)
        row("every label separately", options.naive, naive_wall, naive_cpu)
        for nats in options.prune_nats:
            wall, cpu, rows = measured(lambda nats=nats, ours=ours: ours(nats), device)
            row(f"ours, margin {nats:g}" if nats else "ours", options.items, wall, cpu)
            every = torch.tensor(rows)
            found, sure = every[some], every.softmax(1).amax(1)
            same = int((found.argmax(1) == naive.argmax(1)).sum())
            off = (found.double().softmax(1) - naive.double().softmax(1)).abs().max()
            right = float((every.argmax(1) == torch.tensor(told)).float().mean())
            print(
                f"| {count} | argmax equal {same} of {len(some)}; largest difference {(found - naive).abs().max():.1e}, "
                f"as probability {off:.0e}; right {right:.3f}, likeliest label {sure.mean():.3f} on average | | | | |",
                flush=True,
            )


if __name__ == "__main__":
    main()
