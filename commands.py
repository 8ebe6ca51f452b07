"""Every command: its recipe, its work, what it is for, an example. What a command needs is imported only when it is called."""

import json
from pathlib import Path
from typing import Any

from artefacts.command import Verb, called, path_exists
from data_convert.tasks.records import check_inputs

# Work with something to check before torch is imported, which takes seconds, or to print at the end.


def _tasks(recipe: Any, overwrite: bool) -> None:
    from data_convert.tasks.convert import convert, summary

    convert(recipe, overwrite=overwrite)
    print(summary(recipe.out))


def _trained(module: str, place: str, recipe: Any, overwrite: bool, **found: Any) -> None:
    """In this process, or as ranks under a launcher."""
    from training.launch import deepspeed_config, launch_recipe

    if not recipe.launched:
        called(place)(recipe, overwrite=overwrite, **found)
    else:
        if recipe.deepspeed is not None:
            deepspeed_config(recipe.deepspeed)
        launch_recipe(module, recipe, overwrite, recipe.ranks)


def _pretrain(recipe: Any, overwrite: bool) -> None:
    from artefacts.folder import read_manifest

    path_exists(recipe.model / "config.json", "model", "make one with `llama-gene tokenizer extend`")
    read_manifest(recipe.shards, "shards")
    _trained("pretrain", "pretrain.train:train", recipe, overwrite)


def _instruct(recipe: Any, overwrite: bool) -> None:
    records = check_inputs(recipe.model, recipe.records, "train", "dev")
    _trained("instruct", "instruct.tune.tune:tune", recipe, overwrite, records=records)


def _serve(recipe: Any, overwrite: bool) -> None:
    from instruct.talk.serve import serve
    from training.launch import end

    end(serve(recipe))  # the libraries' destructors took up to twenty seconds


def _steps() -> dict[str, Verb[Any]]:
    return {name: COMMANDS[f"eval {name}"] for name in ("predict", "retention", "score", "report")}


def _eval_run(recipe: Any, overwrite: bool) -> None:
    called("eval.run:run")(recipe, _steps(), overwrite=overwrite)


def _eval_run_plan(recipe: Any) -> None:
    for name, _, step in called("eval.run:planned")(recipe, _steps()):
        print(f"# {name}: {step.model_dump_json(exclude_defaults=True)}")


def _retention(recipe: Any, overwrite: bool) -> None:
    from eval.ask.retention import retention
    from eval.show.content import retention as as_table

    print(as_table(retention(recipe, overwrite=overwrite)).terminal())


def _eval_export(recipe: Any, overwrite: bool) -> None:
    counts = called("eval.ask.harness:export")(recipe, overwrite=overwrite)
    for task, reason in counts["left_out"].items():
        print(f"left out: {task} ({reason})")
    print(f"lm_eval --model hf --model_args pretrained={recipe.model or 'MODEL'} --include_path {recipe.out} --apply_chat_template \\")
    print(f"    --tasks {','.join(counts['written'])}")


def _score(recipe: Any, overwrite: bool) -> None:
    made = recipe.model_dump(mode="json")
    if recipe.answers:
        from eval.judge.alpaca import score_answers
        from eval.show.content import overall, overview

        document = score_answers(recipe.answers, recipe.out, recipe.seed, overwrite, made)
        print(overall(document).terminal(), overview(document, short=True).terminal(), sep="\n\n")
    else:
        from eval.judge.score import score

        score(recipe.records, recipe.predictions, recipe.out, recipe.seed, overwrite, recipe.reference, recipe.parts, made, recipe.dev)


def _report(recipe: Any, overwrite: bool) -> None:
    from eval.show.content import overview
    from eval.show.report import report

    report(recipe, overwrite=overwrite)
    print(overview(json.loads(Path(recipe.metrics).read_text(encoding="utf-8")), short=True).terminal())
    print(f"report: {recipe.out}")


def _compare(recipe: Any, overwrite: bool) -> None:
    from eval.judge.compare import compare
    from eval.show.content import comparison

    print(comparison(compare(recipe, overwrite=overwrite)).terminal())


def _leaderboard(recipe: Any, overwrite: bool) -> None:
    print(called("eval.show.leaderboard:leaderboard")(recipe, overwrite=overwrite))


COMMANDS: dict[str, Verb[Any]] = {
    "tokenizer create": Verb(
        "tokenizer.create:CreateBase", "tokenizer.create:create_base", "make a tiny random base LLaMA",
        "llama-gene tokenizer create --text corpus.jsonl --vocab-size 1024 --out runs/base",
        then="tokenizer extend --base {out} --dna dna.json --protein protein.json --out runs/extended",
    ),
    "tokenizer train": Verb(
        "tokenizer.bpe.train:TrainBpe", "tokenizer.bpe.train:train_bpe", "train a gene vocabulary",
        "llama-gene tokenizer train --alphabet dna --vocab-size 4096 --out runs/dna.json genome.fa.gz",
        positional="files",
        then="tokenizer extend --base BASE --{alphabet} {out} … --out runs/extended",
    ),
    "tokenizer extend": Verb(
        "tokenizer.extend:Extend", "tokenizer.extend:extend_base", "extend a base LLaMA with gene vocabularies",
        "llama-gene tokenizer extend --base runs/base --dna runs/dna.json --protein runs/protein.json --out runs/extended",
        dry_run="tokenizer.extend:preview",
        then="convert pack --recipe configs/corpora/example.yaml --tokenizer {out} --out runs/shards",
    ),
    "tokenizer inspect": Verb(
        "tokenizer.colours:InspectRecipe", "tokenizer.colours:inspect", "show how a text is cut into tokens",
        "llama-gene tokenizer inspect 'The promoter <dna>TATAAATGGC</dna> binds.' --tokenizer runs/extended",
        positional="text",
    ),
    "tokenizer gguf": Verb(
        "tokenizer.gguf:Gguf", "tokenizer.gguf:export_for_gguf", "export a model for llama.cpp",
        "llama-gene tokenizer gguf --model runs/model --out runs/for-gguf",
    ),
    "convert fetch": Verb(
        "data_convert.fetch.fetch:FetchRecipe", "data_convert.fetch.fetch:fetch", "fetch public data with licences and checksums",
        "llama-gene convert fetch swissprot --out data\n"
        "llama-gene convert fetch refseq:GCF_000005845.2 gue --out data",
        positional="sources", dry_run="data_convert.fetch.fetch:preview", adds="folder",
        shares=lambda recipe: True,  # each source has a folder of its own
        then="list tasks",
    ),
    "convert simulate": Verb(
        "data_convert.simulate.organism:SimulateRecipe", "data_convert.simulate.organism:simulate", "generate the simulated organism",
        "llama-gene convert simulate --out runs/organism --seed 0",
        then="convert tasks --cards 'sim/*' --source {out}/tasks --out runs/records",
    ),
    "convert pack": Verb(
        "data_convert.corpus.pack_recipe:PackRecipe", "data_convert.corpus.pack:pack", "pack corpora into token shards",
        "llama-gene convert pack --recipe configs/corpora/example.yaml --tokenizer runs/extended --out runs/shards",
        summary="Pack genomes, proteins and text into token shards with document boundaries.",
        shares=lambda recipe: recipe.part not in (None, "merge"),  # each part has a folder of its own
        then="pretrain --model {tokenizer} --shards {out} --out runs/pretrained",
    ),
    "convert tasks": Verb(
        "data_convert.tasks.task_recipe:TasksRecipe", _tasks, "turn benchmarks into instruction records",
        "llama-gene convert tasks --cards 'gue/*,lucaone/ppi' --source DATA --out runs/records\n"
        "llama-gene convert tasks --out runs/records 'tasks=[{card: gue/splice, source: DATA, train: 5000}]'",
        summary="Turn benchmark files into instruction records, as their task cards say.",
        then="instruct --model MODEL --records {out} --out runs/adapter",
    ),
    "convert audit": Verb(
        "data_convert.splits.audit:AuditRecipe", "data_convert.splits.audit:audit", "leakage between splits, and a split without it",
        "llama-gene convert audit runs/records --out runs/audit --write-split runs/records-controlled",
        summary="Leakage within and across tasks, and a leak-controlled split beside the official one (docs/splits.md).",
        positional="records",
    ),
    "pretrain": Verb(
        "pretrain.recipe:PretrainRecipe", _pretrain, "continued pre-training under DeepSpeed",
        "llama-gene pretrain --model runs/extended --shards runs/shards --out runs/pretrained learning_rate=5e-4\n"
        "deepspeed --num_gpus 8 --module pretrain --recipe configs/pretrain/llama3-8b.yaml",
        dry_run="pretrain.train:preview",
        then="instruct --model {out} --records RECORDS --out runs/adapter",
    ),
    "instruct": Verb(
        "instruct.tune.recipe:InstructRecipe", _instruct, "instruction tuning",
        "llama-gene instruct --model runs/pretrained --records runs/records --out runs/adapter metric_every=200 patience=3\n"
        "deepspeed --num_gpus 8 --module instruct --recipe configs/instruct/llama3-8b.yaml",
        summary="Instruction tuning with TRL: LoRA, DoRA, QLoRA or all weights, loss on the answer only.",
        dry_run="instruct.tune.tune:preview",
        then="eval predict --model {model} --adapter {out} --records {records} --out runs/predictions",
    ),
    "merge": Verb(
        "instruct.tune.merge:MergeRecipe", "instruct.tune.merge:merge", "merge an adapter into its model",
        "llama-gene merge --model runs/pretrained --adapter runs/adapter --out runs/model",
        summary="Merge a LoRA adapter into its model.",
        then="chat --model {out}",
    ),
    "export": Verb(
        "instruct.tune.export:ExportRecipe", "instruct.tune.export:export", "write a model for others, GGUF too",
        "llama-gene export --model runs/model --out runs/exported max_shard=2GB",
        summary="Write a finished model for others: sharded safetensors, model card, GGUF.",
        then="chat --model {out}",
    ),
    "push": Verb(
        "instruct.tune.push:PushRecipe", "instruct.tune.push:push", "publish on the Hugging Face hub",
        "llama-gene push --folder runs/model --to ORG/NAME licence=llama3.2 --metrics runs/metrics.json --private --dry-run",
        dry_run="instruct.tune.push:preview",
    ),
    "chat": Verb(
        "instruct.talk.chat:ChatRecipe", "instruct.talk.chat:chat", "chat in the terminal",
        "llama-gene chat --model runs/quickstart/model --prompt 'Is this a promoter? <dna>TATAAATGGC</dna>'",
        summary="Chat with a gene model in the terminal.",
        aliases={"json": "as_json"},
    ),
    "predict": Verb(
        "instruct.talk.batch:BatchRecipe", "instruct.talk.batch:predict", "predict a table or FASTA file",
        "llama-gene predict promoters.csv --model runs/quickstart/model --task sim/promoter --out runs/promoters.csv",
        summary="Predict a task for every row of a CSV or FASTA file.",
        positional="files",
    ),
    "generate": Verb(
        "instruct.generate.generate:GenerateRecipe", "instruct.generate.generate:generate", "draw sequences as FASTA",
        "llama-gene generate --model runs/pretrained --modality dna --count 20 --out runs/drawn reference=[genome.fa.gz]",
    ),
    "serve": Verb(
        "instruct.talk.serve:ServeRecipe", _serve, "an endpoint and a web page",
        "llama-gene serve --model runs/quickstart/model --records runs/quickstart/records",
        summary="Serve a gene model: an OpenAI-compatible endpoint and a web page.",
    ),
    "eval predict": Verb(
        "eval.recipe:PredictRecipe", "eval.ask.predict:predict", "predict held-out records with a model",
        "llama-gene eval predict --model runs/model --records runs/records --out runs/predictions/model",
        summary="Predict held-out records: label log-likelihoods and greedy text.",
        then="eval score --records {records} --predictions {out} --out runs/metrics.json",
    ),
    "eval run": Verb(
        "eval.recipe:RunRecipe", _eval_run, "predict with several models, score, report",
        "llama-gene eval run --records runs/records --out runs/eval models.llama-gene.model=runs/model models.base.model=runs/pretrained",
        summary="Predict with several models, measure their English, score them together, write the report; finished steps are kept.",
        dry_run=_eval_run_plan, adds="folder",
    ),
    "eval retention": Verb(
        "eval.recipe:RetentionRecipe", _retention, "measure whether models still read English",
        "llama-gene eval retention --models runs/base runs/pretrained runs/pretrained+runs/adapter --out runs/retention.json",
        summary="Measure whether models still read English: bits per byte and perplexity of a fixed text, the first model's beside "
        "the others'.",
    ),
    "eval sequences score": Verb(
        "eval.sequences.recipe:ScoreSequencesRecipe", "eval.sequences.score:score", "likelihood of sequences, by record and letter",
        "llama-gene eval sequences score genome.fa.gz --model runs/pretrained --out runs/scores --both-strands",
        positional="files",
    ),
    "eval sequences variants": Verb(
        "eval.sequences.recipe:VariantsRecipe", "eval.sequences.variants:variants", "how much less likely variants are",
        "llama-gene eval sequences variants --variants calls.vcf.gz --genome genome.fa.gz --model runs/pretrained --out runs/variants",
    ),
    "eval sequences recover": Verb(
        "eval.sequences.recipe:RecoverRecipe", "eval.sequences.recover:recover", "the next letters after real contexts",
        "llama-gene eval sequences recover genome.fa.gz --model runs/pretrained --out runs/recovery contexts=500",
        positional="files",
    ),
    "eval sequences perturb": Verb(
        "eval.sequences.recipe:PerturbRecipe", "eval.sequences.perturb:perturb", "real sequences against changed ones",
        "llama-gene eval sequences perturb transcripts.fa.gz --model runs/pretrained --out runs/perturbed 'changes=[synonymous]'",
        positional="files",
    ),
    "eval sequences pairs": Verb(
        "eval.sequences.recipe:PairsRecipe", "eval.sequences.pairs:pairs", "proteins after their own gene and after another",
        "llama-gene eval sequences pairs genome.gbff.gz --model runs/pretrained --out runs/pairs heldout_share=0.02",
        positional="files",
    ),
    "eval sequences retrieve": Verb(
        "eval.sequences.recipe:RetrieveRecipe", "eval.sequences.recover:retrieve", "a value hidden in a genome, asked for by its key",
        "llama-gene eval sequences retrieve genome.fa.gz --model runs/pretrained --out runs/retrieved 'lengths=[1024, 4096]'",
        positional="files",
    ),
    "eval export": Verb(
        "eval.recipe:ExportRecipe", _eval_export, "write tasks for lm-evaluation-harness",
        "llama-gene eval export --records runs/records --model runs/model --out runs/harness",
        summary="Write the tasks for lm-evaluation-harness: YAML and JSON lines, scored there as here.",
    ),
    "eval baselines": Verb(
        "eval.baselines.run:BaselinesRecipe", "eval.baselines.run:run", "train and run the baselines",
        "llama-gene eval baselines --records runs/records --encoder runs/pretrained --out runs/baselines",
        then="eval score --records {records} --predictions {out} … --out runs/metrics.json",
    ),
    "eval score": Verb(
        "eval.recipe:ScoreRecipe", _score, "score predictions",
        "llama-gene eval score --records runs/records --predictions runs/predictions runs/baselines --out runs/metrics.json\n"
        "llama-gene eval score answers.json --out runs/metrics.json",
        summary="Score predictions, or a file of answers made elsewhere: metrics with 95 % intervals, baselines and published figures "
        "beside them.",
        positional="answers",
        then="eval report --metrics {out} --out runs/report.html",
    ),
    "eval report": Verb(
        "eval.show.report:ReportRecipe", _report, "write the HTML report",
        "llama-gene eval report --metrics runs/metrics.json --records runs/records --predictions runs/predictions --out runs/report.html",
        summary="Write the report, one self-contained HTML page, and print its table.",
    ),
    "eval compare": Verb(
        "eval.judge.compare:CompareRecipe", _compare, "compare two runs, task by task",
        "llama-gene eval compare runs/a/predictions runs/b/predictions --records runs/records --out runs/compared.json",
        summary="Compare two runs on the same records: paired differences per task, with Holm's correction for their number.",
        positional="runs",
    ),
    "eval leaderboard": Verb(
        "eval.show.leaderboard:LeaderboardRecipe", _leaderboard, "put many evaluations into one table",
        "llama-gene eval leaderboard runs/core/metrics.json runs/splice/metrics.json --out runs/leaderboard",
        summary="Put finished evaluations into one table, as a page, Markdown, CSV and JSON: tasks beside systems, with average ranks.",
        positional="metrics",
    ),
    "baseline embed": Verb(
        "eval.baselines.embedding.recipe:EmbedRecipe", "eval.baselines.embedding.command:embed", "embed sequences with frozen encoders",
        "llama-gene baseline embed --input-file proteins.fasta --seq-type prot --encoder facebook/esm2_t6_8M_UR50D --out runs/embeddings",
        adds="folder",
        aliases={"llm_dirpath": "llm_dir", "input": "input_file", "use_bp16": "use_bf16"},
    ),
    "baseline train": Verb(
        "eval.baselines.training.recipe:TrainRecipe", "eval.baselines.training.command:train", "train LucaOne's heads on embeddings",
        "llama-gene baseline train --recipe configs/baselines/protstab.yaml --data ProtStab/protein/regression --out runs/protstab",
    ),
    "baseline predict": Verb(
        "eval.baselines.training.recipe:PredictRecipe", "eval.baselines.training.predict:predict", "predict with a trained head",
        "llama-gene baseline predict --model runs/protstab --input-file proteins.csv --out runs/proteins_prediction.csv",
        adds="file", aliases={"save_path": "out", "model_path": "model", "use_bp16": "use_bf16"},
    ),
}  # fmt: skip
SHARED = ("predict", "generate", "eval predict", "baseline embed", "baseline train", "baseline predict")
"""Commands whose work several processes can share (artefacts/ranks.py)."""
