"""How new embedding rows should begin: held-out loss after the same few steps, for several ways of initialising them.

    python benchmarks/initialisation.py                     # simulated organism, 3 seeds, about 6 minutes on one core
    python benchmarks/initialisation.py --steps 40 --seeds 2 --base-steps 60
    python benchmarks/initialisation.py --data FOLDER       # genome/, proteins/ and text/, each with train and heldout files

A small LLaMA is trained on text alone, once. For each way and each seed its rows are extended and it is trained on DNA,
protein and text in equal parts: the same batches in the same order for every way of a seed. A seed draws the noise and
the batches. The spread is the standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from artefacts.errors import Ledger
from data_convert.simulate.organism import SimulateRecipe, Sizes, simulate
from sequences.alphabets import ALPHABETS
from sequences.readers import read_sequences
from sequences.texts import read_texts
from tokenizer.apart import text_shift
from tokenizer.base import read_base
from tokenizer.bpe.train import TrainBpe, train_bpe
from tokenizer.create import CreateBase, create_base
from tokenizer.extend import Parts
from tokenizer.report.heldout import cut_sequences, cut_texts
from tokenizer.report.loss import SEQUENCE, bits_per_letter, scored_sequences, scored_texts
from tokenizer.report.models import start_of
from tokenizer.report.ways import encoder, ours
from tokenizer.rows import new_rows, sources
from tokenizer.vocabulary import extend

BLOCK, BATCH, LETTERS = 64, 6, 6000
MODALITIES = ("dna", "protein", "text")
OURS = "kept out of text (ours)"
Fill = Callable[[Any, "Rows", int], None]


class Rows:
    """What filling rows takes: sources, rows of the base, rows in all."""

    def __init__(self, parts: Parts) -> None:
        new = parts.new
        self.parts, self.kept = parts, min(new.all)
        self.total = -(-(max(new.all) + 1) // 64) * 64
        self.spelled = sources(parts.base.tokenizer, new, self.total)


def means(noise: float, by_position: bool, text_nats: float = 0.0) -> Fill:
    def fill(model: Any, rows: Rows, seed: int) -> None:
        shifts = None
        if text_nats:
            shifts, _ = text_shift(copy.deepcopy(model), rows.parts, start_of(rows.parts), text_nats, noise, seed)
        model.resize_token_embeddings(rows.total, mean_resizing=False)
        for offset, module in enumerate((model.get_input_embeddings(), model.get_output_embeddings())):
            matrix_VD, shifted = module.weight.data, shifts if offset else None
            for block, rows_ND in new_rows(
                matrix_VD, rows.kept, rows.spelled, noise, seed + offset, by_position=by_position, shifts=shifted
            ):
                matrix_VD[torch.tensor(block)] = rows_ND.to(matrix_VD.dtype)

    return fill


def library(model: Any, rows: Rows, seed: int) -> None:
    torch.manual_seed(seed)
    model.resize_token_embeddings(rows.total, mean_resizing=True)


def normal(model: Any, rows: Rows, seed: int) -> None:
    torch.manual_seed(seed)
    model.resize_token_embeddings(rows.total, mean_resizing=False)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        module.weight.data[rows.kept :].normal_(std=0.02)


WAYS: dict[str, Fill] = {
    OURS: means(0.1, True, 12.0),
    "by position, noise 0.1": means(0.1, True),
    "by position, no noise": means(0.0, True),
    "plain mean, noise 0.1": means(0.1, False),
    "plain mean, no noise": means(0.0, False),
    "transformers mean_resizing": library,
    "N(0, 0.02)": normal,
}


def train(model: Any, streams: dict[str, Tensor], steps: int, seed: int) -> None:
    """Plain AdamW, `BATCH` blocks a step, in equal parts from every stream; the order depends on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, steps // 10)))
    model.train()
    for _ in range(steps):
        parts = []
        for blocks_NT in streams.values():
            parts.append(blocks_NT[torch.randint(len(blocks_NT), (BATCH // len(streams),), generator=generator)])
        ids_BT = torch.cat(parts)
        logits_BTV = model(input_ids=ids_BT, use_cache=False).logits
        loss = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def stream(files: list[Path], name: str, extended: Tokenizer, start: int, blocks: int = 4000) -> Tensor:
    """Training blocks [blocks, BLOCK] of one modality."""
    ids: list[int] = []
    for file in files:
        if name == "text":
            documents = (document.text for document in read_texts(file, Ledger()))
        else:
            alphabet = ALPHABETS[name]
            documents = (
                alphabet.wrap(sequence.letters[at : at + 240])
                for sequence in read_sequences(file, alphabet, Ledger())
                for at in range(0, len(sequence.letters), 240)
            )
        for document in documents:
            ids += [start, *extended.encode(document, add_special_tokens=False).ids]
            if len(ids) >= blocks * BLOCK:
                break
    return torch.tensor(ids[: min(len(ids) // BLOCK, blocks) * BLOCK]).view(-1, BLOCK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with genome/, proteins/ and text/")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--base-steps", type=int, default=400, help="steps on text alone, before the extension")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    report(results, options)
    print(f"{time.perf_counter() - started:.0f} s, one thread")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def measure(options: argparse.Namespace, work: Path) -> dict[str, dict[str, list[list[float]]]]:
    """Way -> modality -> one [before, after] per seed, in bits per letter; `base` holds the base's text."""
    data = options.data
    if data is None:
        few = Sizes(train=1, dev=1, test=1)
        data, tasks = work / "organism", dict.fromkeys(("promoter", "splice", "gene_protein", "interaction", "stability", "function"), few)
        simulate(SimulateRecipe(out=data, train_chromosomes=4, heldout_chromosomes=1, genes_per_chromosome=200, seed=0, **tasks))
    places = {"dna": "genome", "protein": "proteins", "text": "text"}
    files = {(split, name): sorted((data / place).glob(f"{split}*")) for name, place in places.items() for split in ("train", "heldout")}
    sizes = {"hidden_size": 128, "layers": 4, "heads": 4, "kv_heads": 2, "intermediate_size": 352}
    create_base(CreateBase(out=work / "base", text=files["train", "text"], vocab_size=1024, **sizes))
    genes = [
        train_bpe(TrainBpe(alphabet=name, vocab_size=size, longest_piece=8, files=files["train", name], out=work / f"{name}.json"))
        for name, size in (("dna", 1024), ("protein", 512))
    ]
    base = read_base(work / "base")
    extended, new, _ = extend(base, *genes)
    parts = Parts(work / "base", None, base, dict(zip(("dna", "protein"), genes, strict=True)), extended, new)
    start = base.tokenizer.token_to_id(base.config["bos_token"])
    streams = {name: stream(files["train", name], name, extended, start) for name in MODALITIES}
    heldout: dict[str, Any] = {
        name: list(scored_sequences(ours(extended, new), name, list(cut_sequences(files["heldout", name], name, LETTERS, SEQUENCE)), start))
        for name in ("dna", "protein")
    } | {"text": list(scored_texts(encoder(base.tokenizer, "text"), list(cut_texts(files["heldout", "text"], LETTERS)), start))}
    model: Any = AutoModelForCausalLM.from_pretrained(work / "base")
    train(model, {"text": streams["text"]}, options.base_steps, 0)
    rows = Rows(parts)
    results: dict[str, dict[str, list[list[float]]]] = {way: {name: [] for name in MODALITIES} for way in WAYS}
    results["base"] = {"text": [[bits_per_letter(model, heldout["text"])[0]]]}
    for seed in range(options.seeds):
        for way, fill in WAYS.items():
            own = copy.deepcopy(model)
            fill(own, rows, 1000 * seed)
            before = {name: bits_per_letter(own, windows)[0] for name, windows in heldout.items()}
            train(own, streams, options.steps, seed)
            for name, windows in heldout.items():
                results[way][name].append([before[name], bits_per_letter(own, windows)[0]])
    return results


def report(results: dict[str, dict[str, list[list[float]]]], options: argparse.Namespace) -> None:
    """Print the table (bits per base, residue, byte) and who came out best, with the spread it must be seen against."""

    def column(way: str, name: str, after: int) -> list[float]:
        return [pair[after] for pair in results[way][name]]

    print(f"base, before the extension: {results['base']['text'][0][0]:.3f} bits per byte of text")
    print(f"{options.steps} steps, {options.seeds} seeds; before > after ± spread (ratio of after to ours)")
    print(f"{'':<31}" + "".join(f"{name:<33}" for name in MODALITIES))
    for way in WAYS:
        cells = []
        for name in MODALITIES:
            after = column(way, name, 1)
            spread = f"± {statistics.stdev(after):.3f} " if len(after) > 1 else ""
            ratio = statistics.mean(after) / statistics.mean(column(OURS, name, 1))
            cells.append(f"{statistics.mean(column(way, name, 0)):7.3f} > {statistics.mean(after):.3f} {spread}({ratio:.3f})")
        print(f"{way:<31}" + "".join(f"{cell:<33}" for cell in cells))
    for name in MODALITIES:
        best, second = sorted(WAYS, key=lambda way: statistics.mean(column(way, name, 1)))[:2]
        # the same seed has the same batches: the difference is taken seed by seed
        gaps = [two - one for one, two in zip(column(best, name, 1), column(second, name, 1), strict=True)]
        if len(gaps) == 1:
            verdict = "at the one seed there is"
        else:
            verdict = "at every seed" if min(gaps) > 0 else "but not at every seed: no clear winner"
        print(f"{name}: best is {best}, by {statistics.mean(gaps):.4f} bits before {second}, {verdict}")


if __name__ == "__main__":
    main()
