"""The front door: `llama-gene VERB …`, one verb per room. Rooms are imported only when their verb is called."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artefacts.command import Verb, add_arguments, guarded, run
from artefacts.errors import UserError


def _tokenizer_create() -> Verb[Any]:
    from tokenizer.create import CreateBase, create_base

    return Verb(
        CreateBase,
        lambda recipe, overwrite: create_base(recipe, overwrite=overwrite),
        "Make a tiny random base LLaMA, its vocabulary trained on text or taken from an existing tokenizer.",
        "llama-gene tokenizer create --text corpus.jsonl --vocab-size 1024 --out runs/base",
    )


def _tokenizer_train() -> Verb[Any]:
    from tokenizer.bpe.train import TrainBpe, train_bpe

    return Verb(
        TrainBpe,
        lambda recipe, overwrite: train_bpe(recipe, overwrite=overwrite),
        "Train a gene BPE on FASTA files.",
        "llama-gene tokenizer train --alphabet dna --vocab-size 4096 --out runs/dna.json genome.fa.gz",
        positional="files",
    )


def _tokenizer_extend() -> Verb[Any]:
    from tokenizer.extend import Extend, extend_base, preview

    return Verb(
        Extend,
        lambda recipe, overwrite: extend_base(recipe, overwrite=overwrite),
        "Extend a base LLaMA (tokenizer and embedding rows) with gene vocabularies. Text keeps exactly its ids.",
        "llama-gene tokenizer extend --base runs/base --dna runs/dna.json --protein runs/protein.json --out runs/extended",
        dry_run=preview,
    )


def _tokenizer_inspect() -> Verb[Any]:
    from tokenizer.colours import InspectRecipe, inspect

    return Verb(
        InspectRecipe,
        lambda recipe, overwrite: inspect(recipe),
        "Show how an extended tokenizer cuts a text, in colour, with counts per modality.",
        "llama-gene tokenizer inspect 'The promoter <dna>TATAAATGGC</dna> binds.' --tokenizer runs/extended",
        positional="text",
    )


def _tokenizer_gguf() -> Verb[Any]:
    from tokenizer.gguf import Gguf, export_for_gguf

    return Verb(
        Gguf,
        lambda recipe, overwrite: export_for_gguf(recipe, overwrite=overwrite),
        "Write a folder that llama.cpp's converter reads; text is mapped before it is encoded (docs/gguf.md).",
        "llama-gene tokenizer gguf --model runs/model --out runs/for-gguf",
    )


def _convert_fetch() -> Verb[Any]:
    from data_convert.fetch import FetchRecipe, fetch, preview

    return Verb(
        FetchRecipe,
        lambda recipe, overwrite: fetch(recipe, overwrite=overwrite),
        "Fetch public data: checksums verified, licences shown, broken downloads continued.",
        "llama-gene convert fetch swissprot --out data\nllama-gene convert fetch refseq:GCF_000005845.2 gue --out data",
        positional="sources",
        dry_run=preview,
        adds=True,
    )


def _convert_simulate() -> Verb[Any]:
    from data_convert.simulate.organism import SimulateRecipe, simulate

    return Verb(
        SimulateRecipe,
        lambda recipe, overwrite: simulate(recipe, overwrite=overwrite),
        "Generate the simulated organism: genomes, proteins, text and tasks, from a seed.",
        "llama-gene convert simulate --out runs/organism --seed 0",
    )


def _convert_pack() -> Verb[Any]:
    from data_convert.pack import PackRecipe, pack

    return Verb(
        PackRecipe,
        lambda recipe, overwrite: pack(recipe, overwrite=overwrite),
        "Pack genomes, proteins and text into token shards with document boundaries.",
        "llama-gene convert pack --recipe configs/corpora/example.yaml --tokenizer runs/extended --out runs/shards",
    )


def _convert_tasks() -> Verb[Any]:
    from data_convert.task_recipe import TasksRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from data_convert.task_summary import summary
        from data_convert.tasks import convert

        convert(recipe, overwrite=overwrite)
        print(summary(recipe.out))

    return Verb(
        TasksRecipe,
        work,
        "Turn benchmark files into instruction records, as their task cards say.",
        "llama-gene convert tasks --cards 'gue/*,lucaone/ppi' --source DATA --out runs/records\n"
        "llama-gene convert tasks --out runs/records 'tasks=[{card: gue/splice, source: DATA, train: 5000}]'",
    )


def _convert_audit() -> Verb[Any]:
    from data_convert.splits.audit import AuditRecipe, audit

    return Verb(
        AuditRecipe,
        lambda recipe, overwrite: audit(recipe, overwrite=overwrite),
        "Leakage within and across tasks, and a leak-controlled split beside the official one (docs/splits.md).",
        "llama-gene convert audit runs/records --out runs/audit --write-split runs/records-controlled",
        positional="records",
    )


def _launched(module: str, recipe: Any, overwrite: bool, ranks: int) -> None:
    """Hand a validated recipe to the DeepSpeed launcher through a file, so that every rank reads the same one."""
    import tempfile

    from artefacts.launch import launch
    from artefacts.recipe import dump

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{module}.yaml"
        path.write_text(dump(recipe), encoding="utf-8")
        code = launch(module, ranks, ["--recipe", str(path), *(["--overwrite"] if overwrite else [])])
    if code:
        raise SystemExit(code)


def _check_inputs(model: Path | None, records: Path, *splits: str) -> None:
    """Refuse a missing model and bad records before the work imports torch, which takes seconds."""
    from artefacts.command import path_exists
    from data_convert.records import read_records

    if model is not None:
        path_exists(model / "config.json", "model", "give a model folder: of `tokenizer extend`, `pretrain` or `merge`")
    for split in splits:
        read_records(records / f"{split}.jsonl")


def _pretrain() -> Verb[Any]:
    from pretrain.recipe import PretrainRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from artefacts.command import path_exists
        from artefacts.folder import read_manifest
        from artefacts.launch import deepspeed_config

        path_exists(recipe.model / "config.json", "model", "make one with `llama-gene tokenizer extend`")
        read_manifest(recipe.shards, "shards")
        if recipe.deepspeed is not None:
            deepspeed_config(recipe.deepspeed)
            _launched("pretrain", recipe, overwrite, recipe.ranks)
            return
        from pretrain.train import train

        train(recipe, overwrite=overwrite)

    def preview(recipe: Any) -> None:
        from pretrain.preview import preview

        preview(recipe)

    return Verb(
        PretrainRecipe,
        work,
        "Continued pre-training on token shards, under the DeepSpeed launcher.",
        "llama-gene pretrain --model runs/extended --shards runs/shards --out runs/pretrained learning_rate=5e-4\n"
        "deepspeed --num_gpus 8 --module pretrain --recipe configs/pretrain/llama3-8b.yaml",
        dry_run=preview,
    )


def _instruct() -> Verb[Any]:
    from instruct.recipe import InstructRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        _check_inputs(recipe.model, recipe.records, "train", "dev")
        if recipe.deepspeed is not None:
            from artefacts.launch import deepspeed_config

            deepspeed_config(recipe.deepspeed)
            _launched("instruct", recipe, overwrite, recipe.ranks)
            return
        from instruct.tune import tune

        tune(recipe, overwrite=overwrite)

    return Verb(
        InstructRecipe,
        work,
        "LoRA instruction tuning with TRL, loss on the answer only.",
        "llama-gene instruct --model runs/pretrained --records runs/records --out runs/adapter",
    )


def _merge() -> Verb[Any]:
    from instruct.merge import MergeRecipe, merge

    return Verb(
        MergeRecipe,
        lambda recipe, overwrite: merge(recipe, overwrite=overwrite),
        "Merge a LoRA adapter into its model.",
        "llama-gene merge --model runs/pretrained --adapter runs/adapter --out runs/model",
    )


def _chat() -> Verb[Any]:
    from instruct.chat import ChatRecipe, chat

    return Verb(
        ChatRecipe,
        lambda recipe, overwrite: chat(recipe),
        "Chat with a gene model in the terminal.",
        "llama-gene chat --model runs/quickstart/model --prompt 'Is this a promoter? <dna>TATAAATGGC</dna>'",
    )


def _eval_predict() -> Verb[Any]:
    from eval.recipe import PredictRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        _check_inputs(recipe.model, recipe.records, recipe.split)
        from eval.predict import predict

        predict(recipe, overwrite=overwrite)

    return Verb(
        PredictRecipe,
        work,
        "Predict held-out records: label log-likelihoods and greedy text.",
        "llama-gene eval predict --model runs/model --records runs/records --out runs/predictions/model",
    )


def _eval_baselines() -> Verb[Any]:
    from eval.baselines.recipe import BaselinesRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        _check_inputs(recipe.encoder, recipe.records, "train", "test")
        from eval.baselines.run import run as run_baselines

        run_baselines(recipe, overwrite=overwrite)

    return Verb(
        BaselinesRecipe,
        work,
        "Train and run the baselines: majority, k-mer regression, a LucaBase head on frozen embeddings.",
        "llama-gene eval baselines --records runs/records --encoder runs/pretrained --out runs/baselines",
    )


def _baseline_embed() -> Verb[Any]:
    from eval.baselines.embedding.recipe import ALIASES, EmbedRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from artefacts.command import path_exists

        if recipe.input_file is not None:
            path_exists(recipe.input_file, "file", "give a CSV, TSV or FASTA file")
        from eval.baselines.embedding.command import embed

        embed(recipe, overwrite=overwrite)

    return Verb(
        EmbedRecipe,
        work,
        "Embed sequences with LucaOne, ESM-2, DNABERT-2, a gene LLaMA, any AutoModel, or one-hot.",
        "llama-gene baseline embed --input-file proteins.fasta --seq-type prot --encoder facebook/esm2_t6_8M_UR50D --out runs/embeddings",
        adds=True,
        aliases=ALIASES,
    )


def _baseline_train() -> Verb[Any]:
    from eval.baselines.training.recipe import TrainRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from eval.baselines.training.command import train

        figures = train(recipe, overwrite=overwrite)
        print(", ".join(f"{name} {value}" for name, value in figures["test"].items() if name != "interval"))

    return Verb(
        TrainRecipe,
        work,
        "Train LucaBase, LucaPPI or LucaPPI2 on frozen embeddings; the best dev epoch predicts test.",
        "llama-gene baseline train --recipe configs/baselines/protstab.yaml --data ProtStab/protein/regression --out runs/protstab",
    )


def _baseline_predict() -> Verb[Any]:
    from eval.baselines.training.recipe import PredictRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from artefacts.command import path_exists

        path_exists(recipe.model, "head", "give a folder of `baseline train` or of a shipped head")
        if overwrite:
            recipe.out.unlink(missing_ok=True)
        from eval.baselines.training.predict import predict

        predict(recipe)

    return Verb(
        PredictRecipe,
        work,
        "Predict with a trained or shipped head, CSV in and out as the original's predict_v1.",
        "llama-gene baseline predict --model runs/protstab --input-file proteins.csv --out runs/proteins_prediction.csv",
        adds=True,
        aliases={"save_path": "out", "model_path": "model", "emb_dir": "embeddings"},
    )


def _eval_score() -> Verb[Any]:
    from eval.recipe import ScoreRecipe

    def work(recipe: Any, overwrite: bool) -> None:
        from artefacts.folder import write_manifest
        from eval.score import score

        metrics = score(recipe.records, recipe.predictions, recipe.out, recipe.seed, overwrite)
        inputs = metrics["provenance"]["inputs"]
        write_manifest(recipe.out, "metrics", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts={"tasks": len(metrics["tasks"])})

    return Verb(
        ScoreRecipe,
        work,
        "Score predictions: metrics with 95 % intervals, baselines and published figures beside them.",
        "llama-gene eval score --records runs/records --predictions runs/predictions runs/baselines --out runs/metrics.json",
    )


def _eval_report() -> Verb[Any]:
    from eval.report import ReportRecipe, report

    def work(recipe: Any, overwrite: bool) -> None:
        import json

        from eval.tables import terminal_table

        report(recipe, overwrite=overwrite)
        print(terminal_table(json.loads(recipe.metrics.read_text(encoding="utf-8"))))
        print(f"report: {recipe.out}")

    return Verb(
        ReportRecipe,
        work,
        "Write the report, one self-contained HTML page, and print its table.",
        "llama-gene eval report --metrics runs/metrics.json --records runs/records --predictions runs/predictions --out runs/report.html",
    )


VERBS: dict[str, tuple[str, Callable[[], Verb[Any]]]] = {
    "tokenizer create": ("make a tiny random base LLaMA", _tokenizer_create),
    "tokenizer train": ("train a gene BPE", _tokenizer_train),
    "tokenizer extend": ("extend a base LLaMA with gene vocabularies", _tokenizer_extend),
    "tokenizer inspect": ("show how a text is cut into tokens", _tokenizer_inspect),
    "tokenizer gguf": ("export a model for llama.cpp", _tokenizer_gguf),
    "convert fetch": ("fetch public data with licences and checksums", _convert_fetch),
    "convert simulate": ("generate the simulated organism", _convert_simulate),
    "convert pack": ("pack corpora into token shards", _convert_pack),
    "convert tasks": ("turn benchmarks into instruction records", _convert_tasks),
    "convert audit": ("leakage between splits, and a split without it", _convert_audit),
    "pretrain": ("continued pre-training under DeepSpeed", _pretrain),
    "instruct": ("LoRA instruction tuning", _instruct),
    "merge": ("merge an adapter into its model", _merge),
    "chat": ("chat in the terminal", _chat),
    "eval predict": ("predict held-out records with a model", _eval_predict),
    "eval baselines": ("train and run the baselines", _eval_baselines),
    "baseline embed": ("embed sequences with frozen encoders", _baseline_embed),
    "baseline train": ("train LucaOne's heads on embeddings", _baseline_train),
    "baseline predict": ("predict with a trained head", _baseline_predict),
    "eval score": ("score predictions", _eval_score),
    "eval report": ("write the HTML report", _eval_report),
}


def verb(name: str) -> Verb[Any]:
    """Look a verb up by its words. Raises UserError naming the known ones."""
    if name not in VERBS:
        known = _group(name.split()[0]) or ["quickstart", *VERBS]
        if name.split()[1:] or len(known) > len(VERBS):  # not just the first word of a group
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
            hint = f"did you mean '{close[0]}'? The commands are" if close else "the commands are"
            raise UserError(f"'{name}': no such command; {hint}: {', '.join(known)}")
        raise UserError(f"'{name}' is a group of commands; choose one of: {', '.join(known)}")
    return VERBS[name][1]()


def _group(word: str) -> list[str]:
    """The commands of a group, such as `tokenizer`."""
    return [name for name in VERBS if name.startswith(f"{word} ")]


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] == "quickstart":
        from pipeline import main as quickstart

        return guarded(lambda: quickstart(arguments[1:], verb))
    first, *others = arguments
    if _group(first) and others in (["-h"], ["--help"]):
        print("\n".join(f"  {name:<19}{VERBS[name][0]}" for name in _group(first)))
        return 0
    if _group(first) and others and not others[0].startswith("-"):
        name, rest = f"{first} {others[0]}", others[1:]
    else:
        name, rest = first, others

    def work() -> None:
        found = verb(name)
        parser = argparse.ArgumentParser(prog=f"llama-gene {name}")
        add_arguments(parser, found)
        run(parser.parse_intermixed_args(rest), found)

    return guarded(work)


def _overview() -> str:
    lines = [f"  {name:<19}{summary}" for name, (summary, _) in VERBS.items()]
    return "\n".join(
        [
            "usage: llama-gene COMMAND [--recipe YAML] [key=value …] [--dry-run] [--overwrite]",
            "",
            "Turn any LLaMA into an instruction-following gene model.",
            "",
            f"  {'quickstart':<19}the whole way through on a simulated organism, in minutes on a CPU",
            *lines,
            "",
            "`llama-gene COMMAND --help` shows a command's fields and an example.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
