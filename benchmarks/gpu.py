"""What nobody can check without a GPU, in eight minutes on one: `make gpu`; its smoke test on a CPU: `make gpu SMOKE=1`.

    python benchmarks/gpu.py --out runs/gpu
    python benchmarks/gpu.py --smoke --only "loss chunked" "zero2"
    python benchmarks/gpu.py --model runs/llama3-1b/extended --shards runs/llama3-1b/shards     # for the last check, the real run

Every check runs in a process of its own, whose output goes to OUT/NAME.log, and has a time budget: it is ended there, and it is not
begun where less is left of the whole. Nothing is dropped in silence: the table has a line for every check, which passed, failed, was
left out (no time) or skipped (what this machine or its packages lack). OUT/gpu.json holds all figures, OUT/gpu.md the table. The last
check trains by the real run's recipe as long as there is time, and leaves its checkpoint: the same call goes on from it.

Shapes: B rows, T tokens of a row, D width, V ids, N labelled tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import platform
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # not this folder: its files would pass for the rooms `eval`, `pretrain`
os.environ.setdefault("HF_HUB_OFFLINE", "1")
BEGUN = time.time()

Figures = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How large everything is; `FULL` on a GPU, `TOY` where the checks themselves are checked."""

    shape: str
    """Of configs/shapes, for speed and the real run."""
    vocabularies: tuple[int, int]
    block: int
    rows: int
    """Of a batch."""
    steps: int
    """Of runs under DeepSpeed."""
    timed: int
    """Steps whose time counts."""
    compared: int
    """Steps of bf16 beside fp32."""
    tokens: int
    """Of the losses that are compared."""
    items: int
    """Prompts, and sequences to embed."""
    encoder: tuple[int, int, int]
    """Layers, width and heads of LucaOne."""
    letters: tuple[int, ...]
    """Lengths of sequences."""
    recipe: str
    """Of configs/pretrain, for the real run."""
    limit: int
    """Seconds of all checks, from the first import on."""


FULL = Size("llama3-1b", (92_000, 190_000), 4096, 8, 50, 8, 60, 4096, 1024, (20, 2560, 40), (3_400, 10_240, 32_768), "llama3-1b", 480)
TOY = Size("debug", (1000, 1500), 64, 2, 8, 2, 12, 64, 8, (2, 32, 4), (34, 102, 327), "tiny", 115)


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    seconds: int
    """Its budget; the real run takes what is left."""
    does: Callable[[Bench], Figures]
    needs: tuple[str, ...] = ()
    """`gpu`, or packages."""


@dataclass(frozen=True)
class Bench:
    """What a check gets."""

    size: Size
    out: Path
    smoke: bool
    deadline: float
    """`time.time()` at which everything must be done."""
    model: Path | None
    shards: Path | None

    @property
    def device(self) -> str:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def inputs(self) -> Path:
        return self.out / "inputs"


SAVING = 90
"""Seconds of a whole run that are kept for the last checkpoint."""


class WrongError(Exception):
    """A figure that is not what it should be."""


def judged(figures: Figures, truth: bool, what: str) -> Figures:
    """The figures, where they are as they should be."""
    if not truth:
        raise WrongError(f"{what}: {json.dumps(figures)}")
    return figures


# ---- models and batches


def llama(bench: Bench, vocabulary: int, attention: str = "sdpa", layers: int | None = None, loss: str = "auto", **more: Any) -> Any:
    """A random LLaMA of the shape with the project's loss in its head, on the device."""
    import torch
    import yaml
    from transformers import LlamaConfig, LlamaForCausalLM

    from configs import CONFIGS
    from training.loss import score_in_head, way_for

    shape = yaml.safe_load((CONFIGS / "shapes" / f"{bench.size.shape}.yaml").read_text(encoding="utf-8"))
    shape |= {"vocab_size": vocabulary, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": 2} | more
    torch.manual_seed(0)
    with torch.device(bench.device):
        model = LlamaForCausalLM(LlamaConfig(**shape | ({"num_hidden_layers": layers} if layers else {}), attn_implementation=attention))
    score_in_head(model, way_for(loss, bench.device == "cuda"))
    return model


def block(lengths: Sequence[int], width: int, vocabulary: int, seed: int) -> Figures:
    """A row of documents of these lengths, in the form of the shards; ids are drawn, low ones more often, so that there is
    something to learn."""
    import numpy as np

    draw = np.random.default_rng(seed)
    ids = 3 + ((vocabulary - 3) * draw.random(sum(lengths)) ** 3).astype(int)
    return {"input_ids": [*ids.tolist(), *[0] * (width - len(ids))], "seq_lengths": list(lengths)}


def batch(bench: Bench, lengths: Sequence[Sequence[int]], vocabulary: int, seed: int = 0) -> Figures:
    """Rows of documents as the trainer gets them."""
    from pretrain.order import collate

    rows = [block(row, bench.size.block, vocabulary, seed * 1000 + number) for number, row in enumerate(lengths)]
    return {name: value.to(bench.device) for name, value in collate(rows).items()}


def documents(bench: Bench, padded: bool) -> list[list[int]]:
    """Lengths of the documents of each row: a quarter to three quarters of a row, packed or one to a row."""
    draw, size = random.Random(0), bench.size.block
    lengths = [draw.randint(size // 4, size * 3 // 4) for _ in range(4 * bench.size.rows)]
    if padded:
        return [[length] for length in lengths[: bench.size.rows]]
    rows: list[list[int]] = [[] for _ in range(bench.size.rows)]
    for row in rows:
        while sum(row) < size and lengths:
            row.append(min(lengths.pop(), size - sum(row)))
    return rows


def wait(bench: Bench) -> float:
    """The clock, once the device has done its work."""
    import torch

    if bench.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_gib() -> float | None:
    """Peak memory of the GPU."""
    import torch

    return round(torch.cuda.max_memory_allocated() / (1 << 30), 2) if torch.cuda.is_available() else None


# ---- the checks


def make_inputs(bench: Bench) -> Figures:
    """A small extended tokenizer, models of two sizes with it, and shards of drawn words, for what trains from files."""
    from artefacts.folder import read_noted, write_json
    from configs import CONFIGS
    from data_convert.corpus.pack import PackRecipe, Source, pack
    from sequences.alphabets import DNA, PROTEIN
    from tokenizer.create import CreateBase, create_base
    from tokenizer.extend import Extend, extend_base
    from tokenizer.kmers import vocabulary_of
    from tokenizer.saving import carry_tokenizer

    folder, draw, files = bench.inputs, random.Random(0), {"text": CONFIGS / "text" / "english.txt"}
    noted = {"size": json.loads(json.dumps(asdict(bench.size)))}
    if (read_noted(folder / "made.json") or {}).get("size") == noted["size"]:
        return {"found": True}  # a real run that goes on wants its own inputs, not new ones
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for alphabet, k in ((DNA, 3), (PROTEIN, 2)):
        vocabulary_of(alphabet, k).save(str(folder / f"{alphabet.name}.json"))
        letters = alphabet.letters[:4] if alphabet is DNA else "ACDEFGHIKLMNPQRSTVWY"
        words = ["".join(draw.choices(letters, k=12)) for _ in range(50)]
        files[alphabet.name] = folder / f"{alphabet.name}.fa"
        length = 1 + bench.size.block // 12
        records = [f">r{number}\n{''.join(draw.choices(words, k=length))}\n" for number in range(200)]
        files[alphabet.name].write_text("".join(records), encoding="utf-8")
    create_base(CreateBase(out=folder / "base", text=[files["text"]], vocab_size=400, hidden_size=32, layers=2, heads=2, kv_heads=1))
    extend_base(Extend(base=folder / "base", dna=folder / "dna.json", protein=folder / "protein.json", out=folder / "extended"))
    sources = [Source(modality=name, files=[file], heldout_share=0.1) for name, file in files.items() if name != "text"]  # type: ignore[arg-type]
    pack(PackRecipe(tokenizer=folder / "extended", out=folder / "shards", block_tokens=bench.size.block, sources=sources, workers=1))
    sizes = {}
    for name, layers, vocabulary in (("small", 4, bench.size.vocabularies[0]), ("model", None, bench.size.vocabularies[1])):
        model = llama(bench, vocabulary, layers=layers).bfloat16()
        del model.forward  # the project's own, which is no part of what is saved
        model.save_pretrained(folder / name)
        carry_tokenizer(folder / "extended", folder / name)
        sizes[f"{name}_millions"] = round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1)
    write_json(folder / "made.json", noted)
    return sizes


def isolation(kernel: str) -> Callable[[Bench], Figures]:
    """Packed documents have the losses that each has alone, and a batch that lets them see each other has not."""

    def check(bench: Bench) -> Figures:
        import torch

        exact = kernel == "sdpa"
        # the kernels want bf16, which loses far less than a leak adds; separate documents are read by sdpa, since flex
        # attention is compiled anew for every length
        model, plain = (llama(bench, 1000, name, layers=2, loss="chunked", initializer_range=0.2) for name in (kernel, "sdpa"))
        model, plain = (one.float() if exact else one.bfloat16() for one in (model, plain))
        lengths = documents(bench, padded=False)
        packed = batch(bench, lengths, 1000)
        leaking = packed | {"position_ids": torch.arange(bench.size.block, device=bench.device).expand_as(packed["input_ids"])}
        with torch.no_grad():
            together, leak = (model(**rows)["loss"].item() for rows in (packed, leaking))
            alone = 0.0
            for number, row in enumerate(lengths):
                ids, start = packed["input_ids"][number], 0
                for length in row:
                    labels = ids[start : start + length].clone()
                    labels[0] = -100  # nothing tells a document's first token
                    one = {"input_ids": ids[None, start : start + length], "labels": labels[None]}
                    alone += plain(**one, position_ids=torch.arange(length, device=bench.device)[None])["loss"].item()
                    start += length
        figures = {"packed": together / alone - 1, "leaking": leak / alone - 1}
        return judged(figures, abs(figures["packed"]) < (1e-5 if exact else 2e-3) < abs(figures["leaking"]), "not isolated, or not seen")

    return check


def losses_equal(one: str, other: str) -> Callable[[Bench], Figures]:
    """Two ways to score the head: the same sum and the same gradients, in float32 and bf16, and what each takes."""

    def check(bench: Bench) -> Figures:
        import torch

        from training.loss import score

        figures: Figures = {}
        N, V, D = bench.size.tokens, bench.size.vocabularies[0], 2048 if not bench.smoke else 32
        for name, dtype, far in (("fp32", torch.float32, 1e-4), ("bf16", torch.bfloat16, 3e-2)):
            found = []
            for way in (one, other):
                torch.manual_seed(0)
                hidden_BTD = torch.randn(1, N, D, device=bench.device).to(dtype).requires_grad_()
                weight_VD = (torch.randn(V, D, device=bench.device) / D**0.5).to(dtype).requires_grad_()
                labels_BT = torch.randint(0, V, (1, N), device=bench.device)
                begun = wait(bench)
                loss = score(way, hidden_BTD, weight_VD, labels_BT, False, None)
                loss.backward()
                figures[f"{name} {way} s"] = round(wait(bench) - begun, 4)
                found.append((loss.item(), hidden_BTD.grad.float(), weight_VD.grad.float()))  # type: ignore[union-attr]
            apart = [abs(found[0][0] / found[1][0] - 1)] + [
                ((a - b).norm() / b.norm()).item() for a, b in zip(found[0][1:], found[1][1:], strict=True)
            ]
            figures[f"{name} apart"] = max(apart)
            judged(figures, max(apart) < far, f"{one} and {other} differ")
        return figures

    return check


def bf16_trains(bench: Bench) -> Figures:
    """The losses of bf16 (autocast over float32 weights, as a plain run has it) beside those of float32, step by step."""
    import torch

    V, found = bench.size.vocabularies[0], {}
    for name in ("fp32", "bf16"):
        model = llama(bench, V, layers=2)
        adam = torch.optim.AdamW(model.parameters(), lr=3e-4 if not bench.smoke else 3e-3)
        found[name] = [
            stepped(bench, model, adam, batch(bench, documents(bench, False), V, step), name) for step in range(bench.size.compared)
        ]
    apart = max(abs(a / b - 1) for a, b in zip(found["bf16"], found["fp32"], strict=True))
    figures = {"first": found["fp32"][0], "fp32 last": found["fp32"][-1], "bf16 last": found["bf16"][-1], "furthest apart": apart}
    return judged(figures, apart < 0.02 and found["fp32"][-1] < 0.97 * found["fp32"][0], "bf16 is not as fp32, or nothing was learnt")


def stepped(bench: Bench, model: Any, adam: Any, rows: Figures, precision: str) -> float:
    """One step; returns its mean loss."""
    import torch

    with torch.autocast(bench.device, torch.bfloat16, enabled=precision == "bf16"):
        loss = model(**rows)["loss"] / (rows["labels"][:, 1:] != -100).sum()
    loss.backward()
    adam.step()
    adam.zero_grad()
    return float(loss)


def speed(vocabulary: int, padded: bool) -> Callable[[Bench], Figures]:
    """Tokens a second and MFU of training all weights, packed rows or one document to a row."""

    def check(bench: Bench) -> Figures:
        import torch

        from pretrain.recipe import PretrainRecipe
        from training.estimate import flops_per_token, peak_of, sizes_of

        V = bench.size.vocabularies[vocabulary]
        flash = importlib.util.find_spec("flash_attn") and bench.device == "cuda"
        attention = "flash_attention_2" if flash else "sdpa"
        model = llama(bench, V, attention)
        rows = batch(bench, documents(bench, padded), V)
        adam = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        torch.cuda.reset_peak_memory_stats() if bench.device == "cuda" else None
        for _ in range(2):
            stepped(bench, model, adam, rows, "bf16")
        begun = wait(bench)
        for _ in range(bench.size.timed):
            stepped(bench, model, adam, rows, "bf16")
        seconds = (wait(bench) - begun) / bench.size.timed
        tokens, real = rows["input_ids"].numel(), int((rows["labels"] != -100).sum())
        figures = {"attention": attention, "vocabulary": V, "tokens_per_s": round(real / seconds), "with_padding": round(tokens / seconds)}
        recipe = PretrainRecipe(model=Path("m"), shards=Path("s"), out=Path("o"))
        peak = peak_of(torch.cuda.get_device_name()) if bench.device == "cuda" else None
        flops = flops_per_token(sizes_of(model.config), recipe, bench.size.block) * tokens / seconds
        return figures | {"mfu": round(flops / peak, 4) if peak else None, "gflop_per_s": round(flops / 1e9, 1), "peak_gib": peak_gib()}

    return check


def zero(stage: int) -> Callable[[Bench], Figures]:
    """`pretrain` under DeepSpeed: speed, memory, and the losses of ZeRO-3 beside those of ZeRO-2."""

    def check(bench: Bench) -> Figures:
        from pretrain.recipe import PretrainRecipe

        out = bench.out / f"zero{stage}"
        recipe = PretrainRecipe(
            model=bench.inputs / "small",
            shards=bench.inputs / "shards",
            out=out,
            deepspeed=f"zero{stage}",
            precision="bf16",
            steps=bench.size.steps,
            micro_batch=bench.size.rows,
            learning_rate=1e-2 if bench.smoke else 1e-4,
            heldout_blocks=1,
            evaluate_every=10**6,
            english=None,
            sample_tokens=0,
        )
        shutil.rmtree(recipe.work, ignore_errors=True)  # of a check that was ended
        trained(recipe)
        lines = [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if "loss" in line]
        fastest = max(line["tokens_per_second"] for line in lines)
        figures = {
            "steps": len(lines),
            "first": lines[0]["loss"],
            "last": lines[-1]["loss"],
            "tokens_per_s": fastest,
            "peak_gib": peak_gib(),
        }
        before = bench.out / "zero2" / "history.jsonl"
        if stage == 3 and before.is_file():
            others = [json.loads(line) for line in before.read_text(encoding="utf-8").splitlines()]
            pairs = zip([line["loss"] for line in others if "loss" in line], [line["loss"] for line in lines], strict=True)
            figures["furthest from zero2"] = max(abs(a / b - 1) for a, b in pairs)
            judged(figures, figures["furthest from zero2"] < 0.02, "ZeRO-3 is not ZeRO-2")
        return judged(figures, lines[-1]["loss"] < lines[0]["loss"], "nothing was learnt")

    return check


def trained(recipe: Any) -> None:
    """`pretrain` in this process, as the only rank."""
    from pretrain.train import train

    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    train(recipe, overwrite=True)


def qlora(bench: Bench) -> Figures:
    """Adapters on a base in 4 bits: the losses fall, and what it takes."""
    import torch

    from instruct.tune.recipe import InstructRecipe
    from training.model import load_model, score_and_widen

    folder = bench.inputs / ("small" if bench.smoke else "model")
    recipe = InstructRecipe(model=folder, records=folder, out=bench.out / "adapter", train="qlora", precision="bf16")
    model = load_model(recipe, None, merged=False)  # type: ignore[arg-type]  # on a GPU it is loaded there
    score_and_widen(model, recipe, merged=False)
    adam = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-2 if bench.smoke else 1e-3)
    rows, begun, found = batch(bench, documents(bench, False), 400), wait(bench), []
    for _ in range(2 * bench.size.timed):
        found.append(stepped(bench, model, adam, rows, "bf16"))
    seconds = (wait(bench) - begun) / len(found)
    figures = {"first": found[0], "last": found[-1], "tokens_per_s": round(rows["input_ids"].numel() / seconds), "peak_gib": peak_gib()}
    return judged(figures, found[-1] < found[0], "nothing was learnt")


def label_scoring(bench: Bench) -> Figures:
    """Prompts a second of `eval predict`'s scorer, 2 and 100 labels, whole likelihoods and greedy text; some against the naive way."""
    import torch

    from benchmarks.eval import Plain
    from eval.ask.likelihood import answered, separately

    V = bench.size.vocabularies[0]
    model = llama(bench, V, initializer_range=0.05).to(torch.bfloat16 if bench.device == "cuda" else torch.float32).eval()
    draw, figures, items = random.Random(0), Figures(), bench.size.items
    for count in (2, 100 if not bench.smoke else 5):
        labels = [[*draw.choices(range(3, V), k=3), 1] for _ in range(count)]
        prompts = [draw.choices(range(3, V), k=draw.randint(90, 120) if not bench.smoke else 12) for _ in range(items)]
        answered(model, Plain(), prompts[:4], labels, 8)  # the first calls allocate what stays
        begun, size, found = wait(bench), 64, []
        for start in range(0, items, size):
            found += answered(model, Plain(), prompts[start : start + size], labels, 8)[0] or []
        figures[f"{count} labels, prompts_per_s"] = round(items / (wait(bench) - begun), 1)
        with torch.no_grad():
            naive = separately(model, prompts[:4], labels, 0)
        apart = (torch.tensor(found[:4]).softmax(1) - naive.softmax(1)).abs().max().item()
        figures[f"{count} labels, probability apart"] = apart
        judged(figures, apart < (0.05 if bench.device == "cuda" else 1e-4), "likelihoods are not those of the naive way")
    return figures


def embedding(bench: Bench) -> Figures:
    """Proteins a second through a LucaOne of ESM-2's 650M's width, as `baseline embed` batches them."""
    from eval.baselines.embedding.extract import extract
    from eval.baselines.embedding.open import open_encoder
    from eval.baselines.embedding.recipe import Extent
    from eval.baselines.lucaone.config import LucaOneConfig
    from eval.baselines.lucaone.model import LucaOneModel

    layers, width, heads = bench.size.encoder if bench.smoke else (12, 1280, 20)
    folder = bench.inputs / "encoder"
    LucaOneModel(LucaOneConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads)).save_pretrained(folder)
    encoder, draw = open_encoder(folder, bf16=bench.device == "cuda"), random.Random(0)
    items = [
        ("protein", "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randint(50, 550) if not bench.smoke else 20)))
        for _ in range(bench.size.items)
    ]
    list(extract(encoder, items[:2], Extent()))
    begun = wait(bench)
    found = sum(1 for _ in extract(encoder, items, Extent()))
    seconds = wait(bench) - begun
    figures = {"items_per_s": round(found / seconds, 1), "residues_per_s": round(sum(len(one) for _, one in items) / seconds)}
    return judged(figures | {"peak_gib": peak_gib()}, found == len(items), "sequences were lost")


def long_letters(bench: Bench) -> Figures:
    """Peak memory and seconds of one sequence through an encoder of LucaOne's size, at three lengths."""
    import torch

    from eval.baselines.lucaone.config import LucaOneConfig
    from eval.baselines.lucaone.model import LucaOneModel

    layers, width, heads = bench.size.encoder
    with torch.device(bench.device):
        model = LucaOneModel(LucaOneConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads)).bfloat16().eval()
    figures: Figures = {"millions": round(sum(parameter.numel() for parameter in model.parameters()) / 1e6)}
    for length in bench.size.letters:
        ids_BT = torch.randint(5, 20, (1, length), device=bench.device)
        torch.cuda.reset_peak_memory_stats() if bench.device == "cuda" else None
        begun = wait(bench)
        with torch.inference_mode():
            rows = model(ids_BT, token_type_ids=torch.ones_like(ids_BT)).last_hidden_state
        figures[f"{length} s"], figures[f"{length} peak_gib"] = round(wait(bench) - begun, 3), peak_gib()
        judged(figures, rows.shape == (1, length, width) and bool(rows.isfinite().all()), f"{length} letters have no rows")
    return figures


def real_run(bench: Bench) -> Figures:
    """`pretrain` by the real run's recipe until the time is over; its checkpoint stays, and the same call goes on from it."""
    from artefacts.recipe import load
    from configs import CONFIGS
    from pretrain.recipe import PretrainRecipe
    from training.checkpoints import STOP, newest_complete, read_run

    given = bench.model is not None and bench.shards is not None
    drawn = bench.inputs / "model"
    needed = 3 * 16 * sum(path.stat().st_size for path in drawn.glob("*.safetensors")) // 2  # two checkpoints and one being written
    if needed > shutil.disk_usage(bench.out).free:
        drawn = bench.inputs / "small"
    model, shards = bench.model or drawn, bench.shards or bench.inputs / "shards"
    changes = [f"model={model}", f"shards={shards}", f"out={bench.out / 'run'}", "ranks=1", "log_every=1"]
    changes += ["attention=sdpa"] if not importlib.util.find_spec("flash_attn") or bench.smoke else []
    changes += [] if given else ["steps=100000", "warmup=0"]
    changes += ["micro_batch=2", "heldout_blocks=1", "sample_tokens=0"] if bench.smoke else ["heldout_blocks=8"]
    recipe = load(PretrainRecipe, CONFIGS / "pretrain" / f"{bench.size.recipe}.yaml", changes)
    stop, over, until = recipe.work / STOP, threading.Event(), 0.0 if bench.smoke else bench.deadline - SAVING

    def ask() -> None:
        while not over.wait(max(3.0, until - time.time())):
            if stop.parent.is_dir():  # a run that begins removes an old one, so it is asked again and again
                stop.touch()

    threading.Thread(target=ask, daemon=True).start()
    try:
        trained(recipe)
    except SystemExit as left:
        judged({"code": left.code}, left.code == 143, "ended otherwise than asked")
    over.set()
    newest = newest_complete(recipe.work)
    if newest is None:
        return judged({"finished": recipe.out.is_dir()}, recipe.out.is_dir(), "neither a checkpoint nor a model")
    state = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
    lines = [line for line in state["log_history"] if "loss" in line]
    size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    figures = {
        "model": str(model),
        "steps": lines[-1]["step"],
        "first": lines[0]["loss"],
        "last": lines[-1]["loss"],
        "checkpoint": str(newest),
    }
    figures |= {"checkpoint_gib": round(size / (1 << 30), 3), "tokens_per_s": lines[-1]["tokens_per_second"], "mfu": lines[-1].get("mfu")}
    return judged(figures | {"position": read_run(newest)["position"]}, math.isfinite(lines[-1]["loss"]), "the loss is no number")


CHECKS: dict[str, Check] = {
    "inputs": Check(40, make_inputs),
    "attention sdpa": Check(20, isolation("sdpa")),
    "attention flash": Check(20, isolation("flash_attention_2"), ("gpu", "flash_attn")),
    # on a CPU it is compiled first, for more than a minute and by g++
    "attention flex": Check(60, isolation("flex_attention"), ("gpu",)),
    "loss chunked": Check(20, losses_equal("chunked", "full")),
    "loss fused": Check(25, losses_equal("liger", "chunked"), ("gpu", "liger_kernel")),
    "bf16 beside fp32": Check(30, bf16_trains),
    "speed, small vocabulary, packed": Check(30, speed(0, False)),
    "speed, small vocabulary, padded": Check(30, speed(0, True)),
    "speed, large vocabulary, packed": Check(30, speed(1, False)),
    "speed, large vocabulary, padded": Check(30, speed(1, True)),
    "zero2": Check(45, zero(2), ("deepspeed",)),
    "zero3": Check(45, zero(3), ("deepspeed",)),
    "qlora": Check(30, qlora, ("bitsandbytes",)),
    "label scoring": Check(30, label_scoring),
    "embedding": Check(25, embedding),
    "letters": Check(35, long_letters),
    "real run": Check(60, real_run, ("deepspeed",)),
}
"""In the order in which they run. The real run's budget is the least that is worth a beginning."""


# ---- running them


def lacking(check: Check) -> str:
    """What this machine lacks for a check; empty where nothing."""
    import torch

    missing = [name for name in check.needs if name != "gpu" and importlib.util.find_spec(name) is None]
    wants_gpu = "gpu" in check.needs and not torch.cuda.is_available()
    return ", ".join([*(["needs a GPU"] if wants_gpu else []), *(f"{name} is not installed" for name in missing)])


def _in_child(name: str, bench: Bench, theirs: Any) -> None:
    """A check in a process of its own."""
    log = os.open(bench.out / f"{name.replace(' ', '-').replace(',', '')}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import torch

    if bench.device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    try:
        theirs.send(("passed", CHECKS[name].does(bench)))
    except BaseException as error:
        import traceback

        traceback.print_exc()
        theirs.send(("failed", f"{type(error).__name__}: {error}"))
    sys.stdout.flush()
    os._exit(0)  # without the libraries' destructors, which abort now and then


def one(name: str, bench: Bench) -> Figures:
    """The line of a check."""
    check, begun, left = CHECKS[name], time.time(), bench.deadline - time.time()
    if lack := lacking(check):
        return {"check": name, "status": "skipped", "why": lack, "budget": check.seconds}
    if left < check.seconds:
        why = f"no time: {max(0, left):.0f} s were left, and it may take {check.seconds}"
        return {"check": name, "status": "left out", "why": why, "budget": check.seconds}
    # CUDA does not survive a fork; on a CPU the libraries are imported once
    context: Any = multiprocessing.get_context("fork" if bench.device == "cpu" else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(name, bench, theirs))
    child.start()
    theirs.close()
    status, found = "failed", "ended without a word; see its log"
    room = left if check.does is real_run else check.seconds * (1 if bench.device == "cuda" else 3)
    if not multiprocessing.connection.wait([ours], max(1.0, min(room, left))):
        status, found = "failed", f"was ended after {time.time() - begun:.0f} s, its budget"
        child.kill()
    else:
        with contextlib.suppress(EOFError):  # it died
            status, found = ours.recv()
    child.join()
    line = {"check": name, "status": status, "seconds": round(time.time() - begun, 1), "budget": check.seconds}
    return line | ({"figures": found} if status == "passed" else {"why": str(found)[:2000]})


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(document: Figures) -> str:
    """All lines, as Markdown."""
    lines = ["| check | status | s | figures |", "|---|---|---|---|"]
    for line in document["checks"]:
        said = ", ".join(f"{name} {shown(value)}" for name, value in line.get("figures", {}).items() if value is not None)
        lines.append(f"| {line['check']} | {line['status']} | {line.get('seconds', '')} | {said or line.get('why', '')} |")
    head = f"{document['device']}, torch {document['packages']['torch']}, commit {document['commit']}, {document['made']}"
    return "\n".join([head + (", toy sizes" if document["smoke"] else ""), "", *lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of gpu.json, gpu.md, logs and the run's checkpoint")
    parser.add_argument("--smoke", action="store_true", help="toy sizes, two minutes, on a CPU too")
    parser.add_argument("--only", nargs="+", choices=CHECKS, metavar="CHECK", help=f"some of: {', '.join(CHECKS)}")
    parser.add_argument("--model", type=Path, help="extended base of the real run; else random weights")
    parser.add_argument("--shards", type=Path, help="its shards; else drawn words")
    parser.add_argument("--seconds", type=int, help="for all checks (default: 480, smoke 120)")
    options = parser.parse_args()
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    import torch
    import transformers

    from artefacts.folder import git_commit, package_versions, write_json

    if not options.smoke and not torch.cuda.is_available():
        print("no GPU here: `make gpu SMOKE=1` tries every check at toy size", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        import deepspeed  # noqa: F401  # once, not in every child
        import peft  # noqa: F401
    transformers.logging.set_verbosity_error()
    size = TOY if options.smoke else FULL
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = BEGUN + (size.limit if options.seconds is None else options.seconds)
    bench = Bench(size, options.out.resolve(), options.smoke, deadline, options.model, options.shards)
    document: Figures = {
        "made": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "commit": git_commit(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.processor() or platform.machine()}",
        "packages": package_versions(),
        "smoke": options.smoke,
        "size": asdict(size),
        "checks": [],
    }
    for name in CHECKS:
        if options.only is None or name in options.only:
            document["checks"].append(one(name, bench))
            document["seconds"] = round(time.time() - BEGUN, 1)
            write_json(options.out / "gpu.json", document)  # after every check: what ends this early leaves what was found
            (options.out / "gpu.md").write_text(table(document), encoding="utf-8")
            print(table({**document, "checks": document["checks"][-1:]}).splitlines()[-1], flush=True)
    print("\n" + table(document))
    return int(any(line["status"] == "failed" for line in document["checks"]))


if __name__ == "__main__":
    sys.exit(main())
