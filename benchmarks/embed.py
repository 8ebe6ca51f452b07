"""Embedding by length and in batches: ours against the original's way, one sequence at a time with every attention map kept.

    python benchmarks/embed.py                 # table of peak memory and time at four lengths, then file to disk
    python benchmarks/embed.py --layers 8 --width 256
    python benchmarks/embed.py --lengths --sequences stability.train.csv prot --sequences rna.fasta gene  # file to disk only

A LucaOne-shaped encoder with random weights; every figure from a process of its own (a fork, so Linux or macOS). Memory is the peak
of resident memory above that of the loaded model; time is processor time of one thread. File to disk begins with a CSV and ends
with all embeddings written, the model's loading included: in batches and one by one through `baseline embed` into one store, and
as the original does it, one pass and one torch.save per sequence.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from eval.baselines.embedding.inputs import normalised, problem

LENGTHS = (384, 768, 1536, 3072)
AMINO = "ACDEFGHIKLMNPQRSTVWY"


def protein(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(AMINO, k=length))


def reference_rows(model, ids, molecule=1):
    """One pass as upstream makes it: scores of each layer kept in full, then stacked for the contacts nobody asked for."""
    import torch
    import torch.nn.functional as F

    from eval.baselines.lucaone.model import rotary, rotate

    x = model.embeddings(ids, torch.full_like(ids, molecule), torch.ones_like(ids))
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


def sequences_of(path: Path | None, seq_type: str, length: int, residues: int) -> list[str]:
    """Sequences of a FASTA file or of column `seq` of a CSV, drawn by seed 0 until they hold so many residues; random without a file."""
    rng = random.Random(0)
    if path is None:
        return [protein(rng.randint(length * 3 // 4, length * 5 // 4), i) for i in range(residues // length)]
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as handle:
            found = [row["seq"] for row in csv.DictReader(handle)]
    else:
        from tokenizer.readers import fasta_records

        found = ["".join(b"".join(body).decode().split()) for _, _, body in fasta_records(path)]
    rng.shuffle(found)
    drawn: list[str] = []
    for letters in found:
        if sum(map(len, drawn)) >= residues:
            break
        if problem(letters, seq_type) is None:
            drawn.append(letters)
    return drawn


def file_to_disk(model: Path, table: Path, seq_type: str, way: str) -> dict[str, float]:
    """Processor time from a CSV to embeddings on disk."""
    import numpy as np
    import torch

    from eval.baselines.embedding.command import embed
    from eval.baselines.embedding.open import open_encoder
    from eval.baselines.embedding.recipe import EmbedRecipe

    # first calls allocate what stays
    open_encoder(model).embed([("protein", protein(16, 0))])
    with TemporaryDirectory() as name:
        start = time.process_time()
        if way == "original":
            encoder = open_encoder(model)
            with table.open(encoding="utf-8", newline="") as handle, torch.inference_mode():
                for row in csv.DictReader(handle):
                    modality, letters = normalised(row["seq"], seq_type)
                    ids = torch.tensor([[2, *encoder.ids(modality, letters), 3]])
                    rows = reference_rows(encoder.model, ids, int(modality == "protein"))[0, 1:-1]
                    torch.save(np.ascontiguousarray(rows.numpy()), Path(name) / f"matrix_{row['seq_id']}.pt")
        else:
            tokens = {"batch_tokens": 1} if way == "one by one" else {}
            embed(EmbedRecipe(input_file=table, out=Path(name) / "store", encoder=str(model), seq_type=seq_type, gpu_id=-1, **tokens))
        return {"seconds": time.process_time() - start}


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
    parser.add_argument(
        "--sequences", nargs=2, action="append", metavar=("FILE", "TYPE"), help="FASTA or CSV with a column seq; gene or prot"
    )
    parser.add_argument("--residues", type=int, default=20_000, help="of each file that are drawn")
    parser.add_argument("--runs", type=int, default=3, help="from file to disk; the median is shown")
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
        if options.lengths:
            print("\n| residues | ours MiB | s | reference MiB | s |\n|---|---|---|---|---|", flush=True)
        for length in options.lengths:
            ours, kept = (measured(one_length, Path(name), way, length) for way in ("ours", "reference"))
            print(f"| {length:,} | {ours['mib']:.0f} | {ours['seconds']:.2f} | {kept['mib']:.0f} | {kept['seconds']:.2f} |", flush=True)
        print("\n| file to disk | n | mean length | batches s | one by one s | original's way s | ratios |\n|---|---|---|---|---|---|---|")
        files = [(Path(file), kind, 0) for file, kind in options.sequences or []] or [(None, "prot", length) for length in (45, 150, 500)]
        for path, kind, length in files:
            drawn = sequences_of(path, kind, length, options.residues)
            table = Path(name) / "sequences.csv"
            table.write_text("seq_id,seq\n" + "".join(f"s{i},{letters}\n" for i, letters in enumerate(drawn)), encoding="utf-8")
            batches, alone, original = (
                sorted(measured(file_to_disk, Path(name), table, kind, way)["seconds"] for _ in range(options.runs))[options.runs // 2]
                for way in ("batches", "one by one", "original")
            )
            mean = sum(map(len, drawn)) / len(drawn)
            print(
                f"| {path.name if path else 'random'} | {len(drawn)} | {mean:.0f} | {batches:.2f} | {alone:.2f} | {original:.2f} "
                f"| {alone / batches:.1f} one by one, {original / batches:.1f} original's |",
                flush=True,
            )


if __name__ == "__main__":
    main()
