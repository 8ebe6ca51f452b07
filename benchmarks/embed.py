"""Embedding by length and in batches: ours against the original's way, one sequence at a time with every attention map kept.

    python benchmarks/embed.py                 # table of peak memory and time at four lengths, then file to disk
    python benchmarks/embed.py --shape esm2_8m --threads 1 --lengths --sequences proteins.faa prot --sequences rna.fasta gene

Random weights; every figure from a process of its own (a fork, so Linux or macOS). Memory is the peak of resident memory above that
of the loaded model. File to disk begins with a CSV and a loaded model and ends with all embeddings written: in batches by `baseline embed`,
one sequence after another by the same functions, each into one store, and as the original does it (`reference_rows`) with one
torch.save per sequence. Seconds are processor time of all threads, then wall.
"""

from __future__ import annotations

import argparse
import csv
import functools
import multiprocessing
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder, whose eval.py would pass for the room `eval`

from eval.baselines.embedding.inputs import read_letters
from sequences.alphabets import BadSequence

LENGTHS = (384, 768, 1536, 3072)
AMINO = "ACDEFGHIKLMNPQRSTVWY"
SHAPES = {"small": (4, 64, 4), "esm2_8m": (6, 320, 20)}
"""Layers, width, heads."""


def protein(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(AMINO, k=length))


def make_model(shape: str, kind: str, folder: Path) -> None:
    """A random encoder of this shape: LucaOne's, or ESM-2's."""
    import torch

    torch.manual_seed(0)
    layers, width, heads = SHAPES[shape]
    if kind == "lucaone":
        from eval.baselines.lucaone.config import LucaOneConfig
        from eval.baselines.lucaone.model import LucaOneModel

        LucaOneModel(LucaOneConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads)).save_pretrained(folder)
        return
    from transformers import EsmConfig, EsmModel, EsmTokenizer

    tokens = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    EsmTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * width}
    more = {"position_embedding_type": "rotary", "token_dropout": True, "emb_layer_norm_before": False, "max_position_embeddings": 4098}
    config = EsmConfig(vocab_size=len(tokens), pad_token_id=1, mask_token_id=tokens.index("<mask>"), **size, **more)
    EsmModel(config, add_pooling_layer=False).save_pretrained(folder)


def reference_rows(encoder, modality: str, letters: str):
    """One pass as LucaOneApp's get_embedding.py and lucaone_gplm.py make it (commits 0388795f, 7e7da106): molecule ids set letter by
    letter, every layer's rows and attention maps kept, the maps stacked, and the heads of masked letters and of contacts run on them.
    Of ESM-2 as its predict_embedding.py (17157961): no maps kept, attention with plain products."""
    import torch
    import torch.nn.functional as F

    before, after = encoder.frame(modality)
    model, ids = encoder.model, torch.tensor([[*before, *encoder.ids(modality, letters), *after]])
    own = slice(len(before), ids.shape[1] - len(after))
    if model.config.model_type == "esm":
        if model.config._attn_implementation != "eager":
            model.set_attn_implementation("eager")
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, own].clone()
    from eval.baselines.lucaone.model import rotary, rotate

    types = torch.zeros_like(ids)
    for place in range(ids.shape[1]):
        types[0, place] = int(modality == "protein")
    x = model.embeddings(ids, types, torch.ones_like(ids))
    turn = rotary(x.shape[1], model.encoder.head_width, x.device, x.dtype)
    maps, kept = [], [x]
    for layer in model.encoder.layers:
        attention, y = layer.self_attn, layer.pre_layer_norm(x)
        q, k, v = (
            p(y).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        weights = torch.softmax(rotate(q, *turn) @ rotate(k, *turn).transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1)
        maps.append(weights)
        x = x + attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
        x = x + layer.fc2(F.gelu(layer.fc1(layer.post_layer_norm(x))))
        kept.append(x)
    x = model.encoder.last_layer_norm(x)
    dense, letters_out, contact = heads_of(x.shape[2], len(maps) * maps[0].shape[1])
    letters_out(F.layer_norm(F.gelu(dense(x)), x.shape[2:]))
    all_maps = torch.stack(maps, dim=1).flatten(1, 2)
    all_maps = (all_maps * (ids != after[0]).to(x)[:, None, None, :])[..., 1:-1, 1:-1]
    all_maps = all_maps + all_maps.transpose(-1, -2)
    all_maps = all_maps - all_maps.sum(-1, keepdim=True) * all_maps.sum(-2, keepdim=True) / all_maps.sum((-1, -2), keepdim=True)
    torch.sigmoid(contact(all_maps.permute(0, 2, 3, 1)))
    return x[0, own].clone()


@functools.cache
def heads_of(width: int, maps: int):
    """Layers of the head of masked letters, and of that of contacts."""
    from torch import nn

    return nn.Linear(width, width), nn.Linear(width, 39), nn.Linear(maps, 1)


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_length(folder: Path, way: str, length: int) -> dict[str, float]:
    """Memory and time of one sequence."""
    import torch

    from eval.baselines.embedding.extract import extract
    from eval.baselines.embedding.open import open_encoder
    from eval.baselines.embedding.recipe import Extent

    encoder = open_encoder(folder)
    list(extract(encoder, [("protein", protein(16, 0))], Extent()))  # first calls allocate what stays
    before, start = peak(), time.process_time()
    with torch.inference_mode():
        if way == "reference":
            reference_rows(encoder, "protein", protein(length, 1))
        else:
            list(extract(encoder, [("protein", protein(length, 1))], Extent()))
    return {"seconds": time.process_time() - start, "mib": peak() - before}


def sequences_of(path: Path | None, seq_type: str, length: int, residues: int, longest: int) -> list[str]:
    """Sequences of a FASTA file or of column `seq` of a CSV, drawn by seed 0 until they hold so many residues; random without a file."""
    rng = random.Random(0)
    if path is None:
        return [protein(rng.randint(length * 3 // 4, length * 5 // 4), i) for i in range(residues // length)]
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as handle:
            found = [row["seq"] for row in csv.DictReader(handle)]
    else:
        from sequences.readers import fasta_records

        found = [letters for _, _, letters in fasta_records(path)]
    rng.shuffle(found)
    drawn: list[str] = []
    for letters in found:
        if sum(map(len, drawn)) >= residues:
            break
        if len(letters) <= longest and _usable(letters, seq_type):
            drawn.append(letters)
    return drawn


def _usable(letters: str, seq_type: str) -> bool:
    try:
        return bool(read_letters(letters, seq_type))
    except BadSequence:
        return False


def file_to_disk(model: Path, table: Path, seq_type: str, way: str) -> dict[str, float]:
    """Time from a CSV to embeddings on disk."""
    import numpy as np
    import torch

    from eval.baselines.embedding import open as opening
    from eval.baselines.embedding.command import embed
    from eval.baselines.embedding.extract import extract
    from eval.baselines.embedding.inputs import read_inputs
    from eval.baselines.embedding.recipe import EmbedRecipe, Extent
    from eval.baselines.embedding.store import StoreWriter, digest

    encoder = opening.open_encoder(model)
    list(extract(encoder, [("protein" if seq_type == "prot" else "dna", "ACGT" * 4)], Extent()))  # first calls allocate what stays
    opening.open_encoder = lambda *_, **__: encoder  # loading is the same for all ways
    with TemporaryDirectory() as name:
        cpu, wall = time.process_time(), time.perf_counter()
        if way == "one by one":
            store = StoreWriter(Path(name) / "store", {}, "safetensors", "matrix")
            for item in read_inputs(table, seq_type, 0, 1, "refuse")[0]:
                ((_, rows),) = extract(encoder, [(item.modality, item.letters)], Extent())
                store.put(item.id, digest(item.modality, item.letters), item.id, rows.matrix(special=False), rows.passes)
            store.flush()
        elif way == "original":
            with table.open(encoding="utf-8", newline="") as handle, torch.inference_mode():
                for row in csv.DictReader(handle):
                    rows = reference_rows(encoder, *read_letters(row["seq"], seq_type))
                    torch.save(np.ascontiguousarray(rows.numpy()), Path(name) / f"matrix_{row['seq_id']}.pt")
        else:
            embed(EmbedRecipe(input_file=table, out=Path(name) / "store", encoder=str(model), seq_type=seq_type, gpu_id=-1))
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def measured(threads: int, work: Callable[..., dict[str, float]], *arguments: object) -> dict[str, float]:
    """The figures of a process of its own: a fork, whose peak memory begins at what it inherits."""
    import torch

    def measure() -> None:
        torch.set_num_threads(threads)  # not before the fork, which a pool of threads does not survive
        theirs.send(work(*arguments))

    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=measure)
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"{work.__name__}{arguments}: ended with {child.exitcode}")
    return ours.recv()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--kind", choices=("lucaone", "esm2"), default="lucaone")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--sequences", nargs=2, action="append", metavar=("FILE", "TYPE"), help="FASTA or CSV with a column seq; gene or prot"
    )
    parser.add_argument("--residues", type=int, default=60_000, help="of each file that are drawn")
    parser.add_argument("--longest", type=int, default=4094, help="longer sequences of the files are left out")
    parser.add_argument("--runs", type=int, default=3, help="from file to disk; the one of median wall time is shown")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        make_model(options.shape, options.kind, Path(name))
        print("{}, {} layers, width {}, {} heads".format(options.kind, *SHAPES[options.shape]), f"{options.threads} threads", flush=True)
        if options.lengths:
            print("\n| residues | ours MiB | s | reference MiB | s |\n|---|---|---|---|---|", flush=True)
        for length in options.lengths:
            ours, kept = (measured(options.threads, one_length, Path(name), way, length) for way in ("ours", "reference"))
            print(f"| {length:,} | {ours['mib']:.0f} | {ours['seconds']:.2f} | {kept['mib']:.0f} | {kept['seconds']:.2f} |", flush=True)
        print("\n| file to disk | n | mean | batches s | one by one s | original's way s | one by one / batches | original's / batches |")
        print("|---|---|---|---|---|---|---|---|")
        files = [(Path(file), kind, 0) for file, kind in options.sequences or []] or [(None, "prot", length) for length in (45, 150, 500)]
        for path, kind, length in files:
            drawn = sequences_of(path, kind, length, options.residues, options.longest)
            table = Path(name) / "sequences.csv"
            table.write_text("seq_id,seq\n" + "".join(f"s{i},{letters}\n" for i, letters in enumerate(drawn)), encoding="utf-8")
            batches, alone, original = (
                sorted(
                    (measured(options.threads, file_to_disk, Path(name), table, kind, way) for _ in range(options.runs)),
                    key=lambda found: found["wall"],
                )[options.runs // 2]
                for way in ("batches", "one by one", "original")
            )
            mean = sum(map(len, drawn)) / len(drawn)
            print(
                f"| {path.name if path else 'random'} | {len(drawn)} | {mean:.0f} |"
                + "|".join(f" {found['cpu']:.2f}, {found['wall']:.2f} " for found in (batches, alone, original))
                + "|"
                + "|".join(f" {o['cpu'] / batches['cpu']:.1f}, {o['wall'] / batches['wall']:.1f} " for o in (alone, original))
                + "|",
                flush=True,
            )


if __name__ == "__main__":
    main()
