"""Every long command, one after the other, each from what those before it made: for tests of all commands alike.

`COMMANDS`: name of the output -> the command, `@/` for the folder. `KILLS`: how often each is tried; `make torture` sets 20.
"""

from __future__ import annotations

import os
import random
import re
import shlex
from pathlib import Path
from typing import Any

KILLS = int(os.environ.get("LLAMA_GENE_KILLS", "3"))
LONG = "LLAMA_GENE_LONG" in os.environ
"""Whether `make torture` asks for the long form of an attack."""
ORGANISM = ["train_chromosomes=1", "heldout_chromosomes=1", "genes_per_chromosome=60", "train_documents=30", "heldout_documents=20"]
ORGANISM += [f"{task}={{train: 40, dev: 12, test: 40}}" for task in ("promoter", "gene_protein", "stability", "function")]
ORGANISM += [f"{task}={{train: 42, dev: 12, test: 12}}" for task in ("splice", "interaction")]
COMMANDS = {
    "organism": f"convert simulate {shlex.join(ORGANISM)}",
    "base": "tokenizer create --text @/organism/text/train.jsonl vocab_size=400 hidden_size=32 layers=2 heads=2",
    "dna": "tokenizer train --alphabet dna --vocab-size 60 @/organism/genome/train.fa",
    "protein": "tokenizer train --alphabet protein --vocab-size 40 @/organism/proteins/train.fa",
    "extended": "tokenizer extend --base @/base --dna @/dna --protein @/protein",
    "shards": "convert pack --tokenizer @/extended block_tokens=128 shard_blocks=40 part_bytes=4000 workers=1 "
    "'sources=[{modality: dna, files: [@/organism/genome/train.fa], window: 200, heldout_share: 0.2}]'",
    "records": "convert tasks --tokenizer @/extended --cards sim/promoter sim/stability --source @/organism/tasks",
    "audit": "convert audit @/records --write-split @/audit-split",
    "pretrained": "pretrain --model @/extended --shards @/shards deepspeed=null steps=12 save_every=2 micro_batch=2 heldout_blocks=4",
    "adapter": "instruct --model @/pretrained --records @/records deepspeed=null steps=12 save_every=2 log_every=5 evaluate_every=4 "
    "micro_batch=4 max_tokens=256",
    "model": "merge --model @/pretrained --adapter @/adapter",
    "table.csv": "predict @/organism/tasks/promoter/test.csv --model @/model --task sim/promoter group_rows=3",
    "drawn": "generate --model @/model --modality dna count=12 batch=3 max_letters=60 'reference=[@/organism/genome/train.fa]'",
    "predictions": "eval predict --model @/model --records @/records batch_tokens=500 max_new_tokens=5 'controls=[removed]'",
    "baselines": "eval baselines --records @/records 'systems=[majority, kmer]'",
    "embedded": "baseline embed --input-file @/proteins.fa --seq-type prot --encoder @/pretrained save_type=numpy",
    "head": "baseline train --data @/records --task sim/promoter --metric mcc 'loss={kind: binary}' 'encoders=[one-hot]' "
    "'schedule={epochs: 3}'",
    "luca.csv": "baseline predict --model @/head --input-file @/genes.csv --seq-type gene batch=2",
    "scores": "eval sequences score @/genome.fa --model @/pretrained batch_tokens=700 context=100 bases=true both_strands=true",
    "variants": "eval sequences variants --variants @/calls.vcf --genome @/genome.fa --model @/pretrained letters=90 batch_tokens=700",
    "recovered": "eval sequences recover @/genome.fa --model @/pretrained contexts=30 context_letters=90 letters=9 batch_tokens=700",
    "perturbed": "eval sequences perturb @/genome.fa --model @/pretrained pairs=12 letters=90 'changes=[cag, dinucleotide]' "
    "batch_tokens=700",
    "retrieved": "eval sequences retrieve @/genome.fa --model @/pretrained 'lengths=[60, 90]' each=12 key=6 value=6 batch_tokens=700",
    "metrics.json": "eval score --records @/records --predictions @/predictions @/baselines",
    "report.html": "eval report --metrics @/metrics.json --records @/records --predictions @/predictions --sequences @/scores @/recovered",
}

TIMES = rb'"(created|seconds|tokens_per_second|real_tokens_per_second)": [^,}\n]*'
"""Of manifests and logs: what differs between two equal runs."""


def contents(folder: Path) -> dict[str, bytes]:
    """File below the folder -> its bytes, without `TIMES`, nor in manifests the hashes of files that hold some."""
    raw = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    kept = {path: re.sub(TIMES, b"", content) for path, content in raw.items()}
    timed = b"|".join(re.escape(path.name.encode()) for path in raw if kept[path] != raw[path])
    noted = re.compile(rb'"(?:[^"]*/)?(?:' + timed + rb')": "[0-9a-f]{64}"')
    return {str(path): noted.sub(b"", content) if "manifest" in path.name else content for path, content in kept.items()}


def fill(folder: Path) -> None:
    """The inputs that no command makes."""
    draw = random.Random(0)
    words = ["".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=40)) for _ in range(30)]
    (folder / "proteins.fa").write_text("".join(f">p{number}\n{word}\n" for number, word in enumerate(words)))
    genes = ["".join(draw.choices("ACGT", k=60)) for _ in range(40)]
    chromosomes = {f"c{number}": "".join(draw.choices("ACGT", k=500)) for number in range(4)}
    (folder / "genome.fa").write_text("".join(f">{name}\n{letters}\n" for name, letters in chromosomes.items()))
    calls = [
        (name, place + 1, letters[place], "ACGT".replace(letters[place], "")[0])
        for name, letters in chromosomes.items()
        for place in range(0, 500, 40)
    ]
    (folder / "calls.vcf").write_text("".join(f"{name}\t{place}\t.\t{ref}\t{alt}\n" for name, place, ref, alt in calls))
    (folder / "genes.csv").write_text("seq_id,seq\n" + "".join(f"g{number},{gene}\n" for number, gene in enumerate(genes)))


class Runs:
    """Commands in one folder, each run when it is needed first; how long an undisturbed run took."""

    def __init__(self, nursery: Any, folder: Path) -> None:
        self.nursery, self.folder, self.seconds = nursery, folder, dict[str, float]()

    def words(self, name: str) -> list[str]:
        """The command, without its output."""
        return shlex.split(COMMANDS[name].replace("@/", f"{self.folder}/"))

    def call(self, name: str, after: float | None = None, **limits: int) -> tuple[int, float]:
        """Exit code and seconds. `limits`: see `Nursery.call`."""
        (self.folder / f"{name}.log").unlink(missing_ok=True)
        command = [*self.words(name), "--out", str(self.folder / name)]
        return self.nursery.call(command, self.folder / f"{name}.log", after, **limits)

    def make(self, name: str) -> None:
        for earlier in list(COMMANDS)[: list(COMMANDS).index(name) + 1]:
            if earlier not in self.seconds:
                code, self.seconds[earlier] = self.call(earlier)
                assert code == 0, self.told(earlier)

    def told(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def outputs(self, name: str) -> list[Path]:
        own = re.compile(rf"\.?{name.partition('.')[0]}(\.|-split|$)")
        return [path for path in self.folder.iterdir() if own.match(path.name) and path.suffix != ".log"]
