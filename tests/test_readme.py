"""Every command of README and guide runs, in their order, in a folder laid out as they assume, on tiny input; links lead somewhere."""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from samples import english, letters

from configs import CONFIGS
from llama_gene import main
from tokenizer.create import CreateBase, create_base

ROOT = CONFIGS.parent
README, GUIDE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/guide.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = [
    ROOT / "docs" / "tutorials" / f"{name}.md"
    for name in (
        "extend-a-vocabulary",
        "pretrain-on-your-genome",
        "tune-on-your-table",
        "evaluate-on-gue",
        "lucaone-heads",
        "add-a-task",
    )
]
"""In the order of their chain: each takes what those before it made."""
ROOMS = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("runs", ".venv")]
SMALL_ORGANISM = ["train_chromosomes=1", "heldout_chromosomes=1", "genes_per_chromosome=60", "train_documents=30", "heldout_documents=5"]
SMALL_ORGANISM += [
    f"{task}={{train: 40, dev: 8, test: 12}}" for task in ("promoter", "splice", "gene_protein", "interaction", "stability", "function")
]
SMALLER = {
    "tokenizer train --alphabet protein --pieces": [],
    "tokenizer train --alphabet dna": ["vocab_size=150"],
    "tokenizer train --alphabet protein": ["vocab_size=90"],
    "convert fetch": ["--dry-run"],  # tests have no network
    "convert pack": ["block_tokens=256"],
    "pretrain": ["steps=2", "micro_batch=2", "heldout_blocks=1"],
    "convert simulate": SMALL_ORGANISM,
    "instruct": ["epochs=1", "micro_batch=8", "lora.rank=2"],
    "chat": ["max_new_tokens=3"],
    "eval baselines": ["luca.epochs=1"],
    "baseline train": ["schedule.epochs=1"],
    "eval run": ["--dry-run"],  # its steps run one by one
    "serve": ["--dry-run"],  # it serves until it is stopped
    "quickstart": ["--dry-run"],
}
"""Overrides that make a command small, by the words it begins with."""


def commands(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("llama-gene ")]


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def anchors(page: str) -> set[str]:
    """Of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_configs_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"(?<!-)\b((?:{'|'.join(ROOMS)})/[\w/.-]+\.(?:py|md|yaml|json|jinja))\b", text)
    if page.stem != "lab-notebook":  # it tells what was, under the names of its day
        assert [path for path in named if not (ROOT / path).exists()] == []
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        target = (page.parent / path) if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{path}#{anchor}"


def test_paragraphs_of_the_front_page_are_short() -> None:
    text = re.sub(r"```.*?```|^\|.*$|^!?\[.*$", "", README, flags=re.DOTALL | re.MULTILINE)
    long = [part for part in re.split(r"\n\s*\n|^- ", text, flags=re.MULTILINE) if len(part.split()) > 60]
    assert long == []


def run(lines: list[str], data: Path, capsys: pytest.CaptureFixture[str], smaller: dict[str, list[str]] = SMALLER) -> None:
    for line in lines:
        words = line.removeprefix("llama-gene ").replace("../shared/data", str(data))
        extra = next((extra for start, extra in smaller.items() if words.startswith(start)), [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"/quit\n")))  # for `chat`: each process has its own
            assert main([*shlex.split(words, comments=True), *extra]) == 0, f"{line}\n{capsys.readouterr().err}"


def your_files(base: Path) -> None:
    """What README, guide and tutorials take for granted, in this folder."""
    with gzip.open("genome.fa.gz", "wt") as handle:
        handle.writelines(f">contig{i}\n{letters('ACGT', 4000, i)}\n" for i in range(8))
    with gzip.open("proteins.fa.gz", "wt") as handle:
        handle.writelines(f">protein{i}\n{letters('ACDEFGHIKLMNPQRSTVWY', 150, i)}\n" for i in range(150))
    Path("biology.jsonl").write_text("".join(json.dumps({"id": f"d{i}", "text": line}) + "\n" for i, line in enumerate(english(300))))
    Path("text.txt").write_text("\n\n".join(english(300)))
    create_base(CreateBase(out=base, text=[Path("text.txt")], vocab_size=400, hidden_size=32, layers=1, heads=2, kv_heads=1))


def table(path: str, rows: int, seed: int) -> None:
    lines = [f"{n},{letters('ACGT', 60, 1000 * seed + n)},{n % 2}\n" for n in range(rows)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("id,sequence,label\n" + "".join(lines))


@pytest.mark.slow
def test_every_tutorial_runs_after_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    your_files(Path("runs/my/data/smollm2"))  # as `convert fetch smollm2` leaves one
    table("promoters.csv", 80, 1)
    table("new.csv", 3, 2)
    protein = "ACDEFGHIKLMNPQRSTVWY"
    Path("new-proteins.csv").write_text("seq_id,seq_type,seq\n" + "".join(f"{n},prot,{letters(protein, 60, n)}\n" for n in range(3)))
    for seed, split in enumerate(("train", "dev", "test")):
        for name in ("prom/prom_core_all", "tf/0"):
            table(f"data/gue/{name}/{split}.csv", 12, 10 + seed)
            rows = Path(f"data/gue/{name}/{split}.csv").read_text().splitlines()[1:]
            Path(f"data/gue/{name}/{split}.csv").write_text("sequence,label\n" + "".join(row.partition(",")[2] + "\n" for row in rows))
        path = Path(f"data/lucaone-tasks/ProtStab/protein/regression/{split}/{split}.csv")
        path.parent.mkdir(parents=True)
        rows = "".join(f"{n},prot,{letters(protein, 60, 100 * seed + n)},{n / 7}\n" for n in range(12))
        path.write_text("seq_id,seq_type,seq,label\n" + rows)
    for page in TUTORIALS:
        text = page.read_text(encoding="utf-8")
        for name, block in re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, flags=re.DOTALL):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(block, encoding="utf-8")
        assert commands(text), page
        run(commands(text), tmp_path, capsys, SMALLER | {"eval run": ["english=null"]})
    assert "promoter" in Path("runs/my/new-answers.csv").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_command_runs(
    tmp_path: Path, extended_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(extended_folder, "runs/quickstart/model")  # as `make quickstart` leaves one
    (tmp_path / "configs").symlink_to(CONFIGS)
    (tmp_path / "examples").symlink_to(CONFIGS.parent / "examples")
    your_files(Path("path/to/llama"))
    found = commands(README + GUIDE)
    assert len(found) >= 14
    run(found, tmp_path, capsys)
    for block in re.findall(r"```python\n(.*?)```", README + GUIDE, flags=re.DOTALL):
        exec(compile(block, "README", "exec"), {})
    page = Path("runs/my/report.html").read_text(encoding="utf-8")
    assert "simulated" in page
    assert "llama-gene" in capsys.readouterr().out
