"""Embedding by length and in batches: ours against a reference that keeps every attention map, as LucaOne's own extraction does.

    python benchmarks/embed.py                 # table of peak memory and time at four lengths, then throughput
    python benchmarks/embed.py --layers 8 --width 256
    python benchmarks/embed.py --width 32 --lengths      # throughput only; the smaller the encoder, the more a batch saves on one core

A LucaOne-shaped encoder with random weights; every figure from a process of its own (a fork, so Linux or macOS). Memory is the peak
of resident memory above that of the loaded model; time is processor time of one thread.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

LENGTHS = (384, 768, 1536, 3072)
AMINO = "ACDEFGHIKLMNPQRSTVWY"


def protein(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(AMINO, k=length))


def reference_rows(model, ids):
    """One pass as upstream makes it: scores of each layer kept in full, then stacked for the contacts nobody asked for."""
    import torch
    import torch.nn.functional as F

    from eval.baselines.lucaone.model import rotary, rotate

    x = model.embeddings(ids, torch.ones_like(ids), torch.ones_like(ids))
    turn = rotary(x.shape[1], model.encoder.head_width, x.device, x.dtype)
    maps = []
    for layer in model.encoder.layers:
        attention, y = layer.self_attn, layer.pre_layer_norm(x)
        q, k, v = (
            p(y).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        weights = torch.softmax(rotate(q, *turn) @ rotate(k, *turn).transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1)
        maps.append(weights)
        x = x + attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
        x = x + layer.fc2(F.gelu(layer.fc1(layer.post_layer_norm(x))))
    torch.stack(maps, dim=1)
    return model.encoder.last_layer_norm(x)


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_length(folder: Path, way: str, length: int) -> dict[str, float]:
    """Memory and time of one sequence."""
    import torch

    from eval.baselines.embedding.open import open_encoder

    encoder = open_encoder(folder)
    encoder.embed([("protein", protein(16, 0))])  # first calls allocate what stays
    ids = torch.tensor([[2, *encoder.ids("protein", protein(length, 1)), 3]])
    before, start = peak(), time.process_time()
    with torch.inference_mode():
        if way == "reference":
            reference_rows(encoder.model, ids)
        else:
            encoder.embed([("protein", protein(length, 1))])
    return {"seconds": time.process_time() - start, "mib": peak() - before}


def throughput(folder: Path, way: str, count: int) -> dict[str, float]:
    """Letters a second over short sequences of mixed lengths."""
    import torch

    from eval.baselines.embedding.extract import Extent, extract
    from eval.baselines.embedding.open import open_encoder

    sequences = [("protein", protein(random.Random(i).randint(20, 60), i)) for i in range(count)]
    encoder = open_encoder(folder, batch_tokens=1 if way == "one-by-one" else 4096)
    list(extract(encoder, sequences[:20], Extent()))
    start = time.process_time()
    if way == "reference":
        with torch.inference_mode():
            for _, letters in sequences:
                reference_rows(encoder.model, torch.tensor([[2, *encoder.ids("protein", letters), 3]]))
    else:
        list(extract(encoder, sequences, Extent()))
    return {"letters_per_second": sum(len(letters) for _, letters in sequences) / (time.process_time() - start)}


def measured(work: Callable[..., dict[str, float]], *arguments: object) -> dict[str, float]:
    """The figures of a process of its own: a fork, whose peak memory begins at what it inherits."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(work(*arguments)))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"{work.__name__}{arguments}: ended with {child.exitcode}")
    return ours.recv()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--count", type=int, default=600, help="short sequences of the throughput")
    parser.add_argument("--runs", type=int, default=3, help="of the throughput; the median is shown")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    from eval.baselines.lucaone.config import LucaOneConfig
    from eval.baselines.lucaone.model import LucaOneModel

    with TemporaryDirectory() as name:
        torch.manual_seed(0)
        config = LucaOneConfig(hidden_size=options.width, num_hidden_layers=options.layers, num_attention_heads=options.heads)
        LucaOneModel(config).save_pretrained(name)
        print(f"{options.layers} layers, width {options.width}, {options.heads} heads")
        print("\n| residues | ours MiB | s | reference MiB | s |\n|---|---|---|---|---|", flush=True)
        for length in options.lengths:
            ours, kept = (measured(one_length, Path(name), way, length) for way in ("ours", "reference"))
            print(f"| {length:,} | {ours['mib']:.0f} | {ours['seconds']:.2f} | {kept['mib']:.0f} | {kept['seconds']:.2f} |", flush=True)
        print("\n| short sequences | residues per second of processor time |\n|---|---|")
        for way in ("batched", "one-by-one", "reference"):
            found = sorted(measured(throughput, Path(name), way, options.count)["letters_per_second"] for _ in range(options.runs))
            print(f"| {way} | {found[len(found) // 2]:,.0f} ({found[0]:,.0f} to {found[-1]:,.0f}) |", flush=True)


if __name__ == "__main__":
    main()
