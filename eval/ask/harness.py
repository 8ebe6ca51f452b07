"""Tasks for lm-evaluation-harness: one YAML and one JSON-lines file each, so that others can score any model on them.

    lm_eval --model hf --model_args pretrained=MODEL --include_path OUT --tasks NAME --apply_chat_template

`acc` is then our accuracy by log-likelihood. Three things make it so. The harness puts nothing between prompt and choice when a chat
template is applied, so the choices hold all that the template writes behind a prompt: a leading blank, the label, the
end-of-turn token. The prompt goes in as the one user message. The choices stand in the YAML, in the card's order.

The folder may be moved: a task's records are read from beside its YAML (records.py). There is no `acc_norm`: the harness moves white
space at the end of a prompt, which chat templates have, into every choice, and then divides by lengths without it.

Kinds without one right label out of a closed set (regression, text, sets) are left out and named: the harness has no metric of
ours for them.
"""

import json
from typing import Any

import yaml

from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from data_convert.tasks.cards import read_cards
from data_convert.tasks.kinds import KINDS
from data_convert.tasks.records import read_records
from eval.predictions import by_task
from eval.recipe import ExportRecipe, Subject
from tokenizer.conversations import written_answer

GROUP = "llama_gene"
READ = "records"
"""What every task's YAML includes. The harness knows no path beside a YAML but that of a function."""
RECORDS = '''"""Reads the records of a task that lie beside this file, wherever the folder is."""

from pathlib import Path

import datasets


def read(file, **_):
    return datasets.load_dataset("json", data_files={"test": str(Path(__file__).with_name(file))})
'''


def export(recipe: ExportRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Write the folder; returns the tasks written and, with the reason, those left out.

    Raises:
        UserError: missing records or cards, existing output, a template that writes choices differently from record to record.
    """
    check_absent(recipe.out, overwrite)
    records = read_records(recipe.records / f"{recipe.split}.jsonl")
    cards = {card.id: card for card in read_cards(recipe.records)}
    tokenizer = None
    if recipe.model is not None:
        from eval.ask.subjects import check_subject, open_tokenizer

        check_subject(Subject(model=recipe.model))
        tokenizer = open_tokenizer(Subject(model=recipe.model))
    written, left_out = [], {}
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        for task, its in by_task(iter(records)).items():
            if reason := _why_not(its):
                left_out[task] = reason
                continue
            if task not in cards:
                raise UserError(f"{recipe.records}: records of {task}, which has no card in cards.json; convert the tasks again")
            name = task.replace("/", "_")
            choices = its[0]["choices"]
            lines = [{"id": r["id"], "text": r["prompt"][0]["content"], "label": choices.index(r["label"])} for r in its]
            data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (folder / f"{name}.jsonl").write_text(data, encoding="utf-8")
            config = {
                "task": f"{GROUP}_{name}",
                "tag": GROUP,
                "include": READ,
                "dataset_kwargs": {"file": f"{name}.jsonl"},
                "test_split": "test",
                "output_type": "multiple_choice",
                "doc_to_text": "text",
                "doc_to_target": "label",
                "doc_to_choice": written_behind(tokenizer, its, choices) if tokenizer is not None else choices,
                "target_delimiter": "",
                # no mcc: the harness resamples it 100,000 times, which takes minutes a task
                "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
                "metadata": {
                    "version": cards[task].version,
                    "records": fingerprint(recipe.records),
                    "chat_template": tokenizer is not None,
                },
            }
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False, width=140), encoding="utf-8")
            written.append(config["task"])
        if not written:
            raise UserError(f"{recipe.records}: no task here can be exported: " + "; ".join(f"{t}: {why}" for t, why in left_out.items()))
        (folder / READ).write_text("custom_dataset: !function records.read\n", encoding="utf-8")
        (folder / "records.py").write_text(RECORDS, encoding="utf-8")
        counts = {"written": written, "left_out": left_out}
        inputs = {"records": fingerprint(recipe.records)}
        write_manifest(folder, "harness", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts=counts)
    return counts


def written_behind(tokenizer: Any, records: list[dict[str, Any]], choices: list[str]) -> list[str]:
    """What the chat template writes behind a prompt for every choice, its end-of-turn token included.

    Raises:
        UserError: that depends on the record, or the answer is not written behind the prompt.
    """
    found = [written_answer(tokenizer, records[0]["prompt"], choice) for choice in choices]
    for record in records:
        if written_answer(tokenizer, record["prompt"], choices[0]) != found[0]:
            raise UserError(f"'{record['id']}': the chat template writes its answers otherwise than those of '{records[0]['id']}'")
    return found


def _why_not(records: list[dict[str, Any]]) -> str | None:
    """Why a task has no place in the harness, or None."""
    kind = KINDS[records[0]["kind"]]
    if not kind.one_label:
        return f"{kind.name} tasks have no single right label"
    if "reason" in records[0]:
        return "a reason follows its answers, and the harness compares whole answers"
    if any(len(record["prompt"]) != 1 for record in records):
        return "its prompts have more than one message"
    return None
