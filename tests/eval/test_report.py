"""The page is one safe file that says what is simulated; tables agree with the figures."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from invented_run import EVIL, write_lines

from artefacts.errors import UserError
from artefacts.folder import manifest_path
from eval.judge.score import score
from eval.predictions import read_lines
from eval.show.chats import draw, pieces
from eval.show.content import leakage, overview, verdict
from eval.show.report import ReportRecipe, report


def recipe_for(folder: Path, **changes: Any) -> ReportRecipe:
    values = {
        "title": "A run",
        "metrics": folder / "metrics.json",
        "records": folder / "records",
        "predictions": folder / "predictions",
        "tokenizer": folder / "extended",
        "pretrain": folder / "pretrained",
        "instruct": folder / "instructed",
        "out": folder / "report" / "report.html",
    }
    return ReportRecipe.model_validate(values | changes)


def written(recipe: ReportRecipe) -> Path:
    report(recipe)
    return recipe.out


def scored(folder: Path) -> dict[str, Any]:
    return score(folder / "records", folder / "predictions", folder / "metrics.json", seed=0)


class Page(HTMLParser):
    """Collects tags, attributes, ids and visible text; counts what is open."""

    VOID = ("meta", "br", "img", "link", "input", "hr", "use", "path", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_that_loads_nothing(invented: Path) -> None:
    scored(invented)
    path = written(recipe_for(invented))
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.html", "report.html.manifest.json", "report.md"]
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert not {"script", "link", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith("#"), f"<{tag} {name}={attributes[name]}>"
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)'\"]+)", text))
    assert len(text) < 1_000_000
    assert json.loads(manifest_path(path).read_text(encoding="utf-8"))["counts"] == {"tasks": 4}


def test_links_inside_the_page_lead_somewhere(invented: Path) -> None:
    scored(invented)
    page = Page(written(recipe_for(invented)).read_text(encoding="utf-8"))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    targets = {(attributes.get("href") or "")[1:] for tag, attributes in page.tags if tag == "a"}
    assert targets
    assert targets <= ids


def test_every_section_is_there_with_its_figures(invented: Path) -> None:
    document = scored(invented)
    page = Page(written(recipe_for(invented, simulated_note="Planted on purpose.")).read_text(encoding="utf-8"))
    assert "3 of 4 tasks here are simulated." in page.text
    assert "Planted on purpose." in page.text
    for task in document["tasks"]:
        model = task["systems"]["llama-gene"]["metrics"][task["primary_metric"]]
        assert f"{model['value']:.3f}".replace("-", "−") in page.text
        assert f"[{model['low']:.3f}, {model['high']:.3f}]".replace("-", "−") in page.text
    for words in (
        "uniform: 2",
        "1,480,000",
        "1,029 → 3,108",
        "random split of their own",
        "What is not claimed",
        "drawn at random by seed 0",
        "dev loss",
    ):
        assert words in page.text, words
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    # of stages; of every task intervals and length; of classes reliability, of two also ROC
    assert len(drawings) == 3 + 4 * 2 + 2 + 1
    assert all(attributes.get("aria-label") for attributes in drawings)


def test_the_page_follows_the_theme(invented: Path) -> None:
    scored(invented)
    text = written(recipe_for(invented)).read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--c1)" in drawn
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", drawn), "a colour that does not follow the theme"


def test_a_malicious_answer_and_sequence_are_shown_as_text(invented: Path) -> None:
    records = list(read_lines(invented / "records" / "test.jsonl"))
    for record in records:
        record["prompt"][0]["content"] = f"{EVIL} <dna>{EVIL}</dna> <dna onclick=alert(1)>ACGT</dna>"
    write_lines(invented / "records" / "test.jsonl", records)
    lines = list(read_lines(invented / "predictions" / "llama-gene.jsonl"))
    for line in lines:
        line.update(text=EVIL, parsed=None, status="invalid")
        if line["kind"] == "text":
            line["predicted"] = EVIL
    write_lines(invented / "predictions" / "llama-gene.jsonl", lines)
    cards = json.loads((invented / "records" / "cards.json").read_text(encoding="utf-8"))
    for card in cards:
        card["title"] = card["split_note"] = EVIL
        card["source"]["name"] = card["source"]["url"] = EVIL
        card["published"] = [{"model": EVIL, "metric": card["primary_metric"], "value": 0.5, "source": EVIL, "note": EVIL}]
    (invented / "records" / "cards.json").write_text(json.dumps(cards), encoding="utf-8")
    extension = json.loads((invented / "extended" / "extension_report.json").read_text(encoding="utf-8"))
    extension["modalities"]["dna"]["example"]["after"] = [EVIL]
    (invented / "extended" / "extension_report.json").write_text(json.dumps(extension), encoding="utf-8")
    scored(invented)
    page = Page(written(recipe_for(invented, title=EVIL, simulated_note=EVIL)).read_text(encoding="utf-8"))
    assert not page.open
    assert EVIL in page.text
    assert not [tag for tag, attributes in page.tags if tag in ("script", "dna") or "onclick" in attributes]


def test_sections_without_their_folder_are_left_out_and_named(invented: Path) -> None:
    scored(invented)
    page = Page(written(recipe_for(invented, tokenizer=None, pretrain=None, instruct=None)).read_text(encoding="utf-8"))
    assert "Not part of this report: tokenizer, pretrain, instruct, audit, English of the final model" in page.text
    assert "Tokenizer, before and after" not in page.text
    assert "Tasks" in page.text


def test_many_sources_of_a_modality_stand_in_the_table_and_modalities_in_the_plot(invented: Path) -> None:
    folder = invented / "pretrained"
    losses = json.loads((folder / "losses.json").read_text(encoding="utf-8"))
    history = list(read_lines(folder / "history.jsonl"))
    names = [f"dna/genome-{number}.fa" for number in range(9)]
    for found in (losses["before"], losses["after"], *(line["heldout"] for line in history if "heldout" in line)):
        found |= dict.fromkeys(names, found["dna"])
    (folder / "losses.json").write_text(json.dumps(losses), encoding="utf-8")
    write_lines(folder / "history.jsonl", history)
    scored(invented)
    text = written(recipe_for(invented)).read_text(encoding="utf-8")
    assert all(name in Page(text).text for name in names)
    assert not [name for name in names if f"{name}, bits per base" in text]
    assert "DNA, bits per base" in text


def test_a_folder_without_its_file_is_refused_before_anything_is_written(invented: Path) -> None:
    scored(invented)
    (invented / "pretrained" / "losses.json").unlink()
    with pytest.raises(UserError, match=r"losses\.json: no such file"):
        written(recipe_for(invented))
    with pytest.raises(UserError, match=r"metrics\.json: no such file"):
        written(recipe_for(invented, metrics=invented / "pretrained" / "metrics.json"))
    assert not (invented / "report").exists()


def test_no_simulated_task_no_banner(invented: Path) -> None:
    cards = json.loads((invented / "records" / "cards.json").read_text(encoding="utf-8"))
    for card in cards:
        card["simulated"] = False
    (invented / "records" / "cards.json").write_text(json.dumps(cards), encoding="utf-8")
    scored(invented)
    assert "simulated." not in Page(written(recipe_for(invented)).read_text(encoding="utf-8")).text


def test_chats_are_drawn_by_the_seed_and_not_by_merit(invented: Path) -> None:
    records = {record["id"]: record for record in read_lines(invented / "records" / "test.jsonl")}
    lines = [line for line in read_lines(invented / "predictions" / "llama-gene.jsonl") if line["task"] == "bench/species"]
    chosen = [chat.id for chat in draw(lines, records, 5, seed=0)]
    assert chosen == [chat.id for chat in draw(lines, records, 5, seed=0)]
    assert chosen != [chat.id for chat in draw(lines, records, 5, seed=1)]
    # the answers play no part in the draw
    swapped = [{**line, "predicted": line["gold"], "text": line["gold"]} for line in lines]
    assert chosen == [chat.id for chat in draw(swapped, records, 5, seed=0)]
    assert len(draw(lines, records, 500, seed=0)) == 60
    chat = draw(lines, records, 1, seed=0)[0]
    assert [bar.share for bar in chat.bars] == sorted((bar.share for bar in chat.bars), reverse=True)
    assert len(chat.bars) == 6
    assert chat.more_choices == 2


def test_long_sequences_are_shortened_in_the_middle_and_nothing_else() -> None:
    letters = "ACGT" * 50
    before, sequence, after = pieces(f"Is <rna> a tag? <dna>{letters}</dna> Say so.")
    assert (before.text, after.text) == ("Is <rna> a tag? ", " Say so.")
    assert sequence.tags == ("<dna>", "</dna>")
    assert sequence.text + letters[36 : 36 + sequence.hidden] + sequence.tail == letters
    assert sequence.unit == "base"
    (short,) = pieces("<protein>MKV</protein>")
    assert (short.text, short.hidden, short.tail) == ("MKV", 0, "")


def test_the_terminal_table_is_aligned_and_the_summary_agrees(invented: Path) -> None:
    document = scored(invented)
    lines = overview(document, short=True).terminal().splitlines()
    assert len(lines) == 2 + 4
    assert lines[0].split()[0] == "task"
    end = lines[0].index("  n  ") + 3
    assert all(line[:end].rstrip().endswith("60") for line in lines[2:])
    summary = written(recipe_for(invented)).with_suffix(".md").read_text(encoding="utf-8")
    model = document["tasks"][0]["systems"]["llama-gene"]["metrics"]["mcc"]
    figure = f"{model['value']:.3f} [{model['low']:.3f}, {model['high']:.3f}]"
    assert figure in lines[2]
    assert figure in summary
    assert "simulated" in summary


def test_sequences_without_training_stand_in_the_same_report(invented: Path) -> None:
    scored(invented)
    folders = []
    for what, found in {"score": ("all records", "bits per base", 1.9), "variants": ("9 positive of 20", "AUROC", None)}.items():
        folders.append(invented / what)
        folders[-1].mkdir()
        bounds = {"value": found[2], "low": 1.8 if found[2] else None, "high": 2.0 if found[2] else None}
        document = {"evaluation": what, "system": "small", "alphabet": "dna", "spelling": "letters", "exactness": "letters: exact"}
        document |= {"note": f"about {what}", "seed": 0, "intervals": "95 % percentile intervals"}
        document |= {"figures": [{"of": found[0], "metric": found[1], "n": 1234, **bounds}]}  # type: ignore[dict-item]
        (folders[-1] / "figures.json").write_text(json.dumps(document), encoding="utf-8")
    page = written(recipe_for(invented, sequences=folders))
    text, summary = Page(page.read_text(encoding="utf-8")).text, page.with_suffix(".md").read_text(encoding="utf-8")
    for shown in (text, summary):
        assert "Sequences, without training" in shown
        assert "about variants" in shown
    assert "| score | small | all records | bits per base | 1,234 | 1.900 [1.800, 2.000] |" in summary
    assert "| variants | small | 9 positive of 20 | AUROC | 1,234 | – |" in summary
    (folders[0] / "figures.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"score/figures.json: no evaluation or system"):
        report(recipe_for(invented, sequences=folders, out=invented / "again.html"))


def test_bold_is_the_best_value_whoever_has_it(invented: Path) -> None:
    document = scored(invented)
    task = document["tasks"][0]
    ours = task["systems"]["llama-gene"]["metrics"]["mcc"]
    for better in (0.01, -0.01):
        other = {"metrics": {"mcc": {**ours, "value": ours["value"] + better}}}
        task["systems"]["kmer"] = {**task["systems"]["llama-gene"], **other}
        task["differences"]["kmer"] = {"value": -better, "low": -better - 0.001, "high": -better + 0.001}
        table = overview(document)
        row = dict(zip(map(str, table.header), table.rows[0], strict=True))
        assert (row["k-mer linear"].strong, row["llama-gene"].strong) == (better > 0, better < 0)
        assert f"**{ours['value'] + max(better, 0):.3f}**" in table.markdown()
        assert f"best of the systems measured here on {int(better < 0)} of 1 tasks" in table.sentence
        assert f"beside k-mer linear better on {int(better < 0)}, level on 0, worse on {int(better > 0)}" in table.sentence
        assert "k-mer linear: a linear model on counts" in table.caption
    assert verdict(document) == table.sentence


def test_leakage_is_the_audit_s_figure(invented: Path) -> None:
    document = scored(invented)
    task = document["tasks"][0]

    def audit(n: int, found: int) -> dict[str, Any]:
        twins = {"exact": {"records": 3}, "cluster": {"records": found}}
        row = {"test_task": task["task"], "train_task": "any task", "input": "sequence", "n": n, **twins}
        return {"tasks": [task["task"]], "leakage": {"official": {"test against train": [row]}}}

    assert leakage(None, task).startswith("Not audited")
    assert leakage({**audit(60, 1), "leakage": {"official": {"test against train": []}}}, task).endswith(
        "no test record has a relative in train."
    )
    with pytest.raises(UserError, match="the audit saw 59 test records of sim/promoter, the metrics rest on 60"):
        leakage(audit(59, 1), task)
    (invented / "audit").mkdir()
    (invented / "audit" / "audit.json").write_text(json.dumps(audit(60, 54)), encoding="utf-8")
    page = written(recipe_for(invented, audit=invented / "audit"))
    for text in (Page(page.read_text(encoding="utf-8")).text, page.with_suffix(".md").read_text(encoding="utf-8")):
        assert "Audit: 90.0 % of the test records have a near duplicate in train (sequence), 5.0 % the very same sequence." in text


def test_results_come_first_and_chats_are_right_or_wrong(invented: Path) -> None:
    scored(invented)
    text = Page(written(recipe_for(invented)).read_text(encoding="utf-8")).text
    order = ["Overview", "Task by task", "Sample chats", "Tokenizer, before and after", "Continued pre-training", "Provenance"]
    places = [text.rindex(f"\n{heading}\n") for heading in order]
    assert places == sorted(places)
    assert re.search(r"(right|wrong): predicted (promoter|background)", text)
