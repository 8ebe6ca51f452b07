"""What a report says, as tables: one content for the page, for the Markdown beside it and for the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.folder import read_json
from data_convert.splits.leakage import ANY
from data_convert.splits.page import TEST
from data_convert.tasks.kinds import LOWER_IS_BETTER
from eval.ask.controls import CONTROLS
from eval.judge.score import MODEL
from pages.page import MODALITIES, share
from pages.tables import Cell, Table

BASELINES = {"majority": "majority", "kmer": "k-mer linear", "nearest": "nearest", "luca_base": "LucaBase head", "luca": "LucaOne head"}
"""Known baselines in the order of the columns, and what they are called."""
ABOUT = {
    "majority": "the most frequent answer of train, whatever the sequence",
    "kmer": "a linear model on counts of short words of letters, trained on the same records",
    "nearest": "the answer of the training record whose sequence is most alike",
    "luca_base": "LucaOne's head, trained on frozen embeddings of the encoder that the baselines' manifest names",
    "luca": "LucaOne's head on LucaOne's own embeddings",
    "untuned": "the same model before instruction tuning",
}
"""What is said of a system beside its figures."""
COLOURS = {"kmer": 1, "luca_base": 2, "luca": 2, "majority": 3, "nearest": 4}
OTHER = 5
LOST = 0.05
"""Share of further bits per byte from which a model is said to have lost English."""
LEGACY = ("lenient", "stripped", "exact")


def read_stage(path: Path, *needs: str) -> Any:
    """An object of a finished stage. Raises UserError: no such file, no JSON, or one without `needs`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage that writes it, or leave its folder out of the report")
    found = read_json(path, "run the stage that writes it again")
    if not isinstance(found, dict) or not found.keys() >= {*needs}:
        raise UserError(f"{path}: no {' or '.join(needs) or 'object'} in it; run the stage that writes it again")
    return found


def name_of(system: str) -> str:
    """What a system is called in tables."""
    return BASELINES.get(system, system)


def colour(system: str, reference: str) -> int:
    """Number of a system's colour on the page, from 0."""
    return 0 if system == reference else COLOURS.get(system, OTHER)


def reference_of(metrics: dict[str, Any]) -> str:
    """The system that the others are compared with."""
    return metrics["provenance"].get("reference", MODEL)


def is_control(system: str) -> bool:
    """Whether a system is a negative control, `<system>@<control>`."""
    return "@" in system


def in_order(task: dict[str, Any], reference: str) -> list[str]:
    """The task's systems without controls: the reference, the known baselines, then the others."""
    rank = {reference: -1, "nearest": 0, "luca": 1, "luca_base": 1, "kmer": 2, "majority": 9}
    return sorted((name for name in task["systems"] if not is_control(name)), key=lambda name: (rank.get(name, 5), name))


def columns(metrics: dict[str, Any]) -> list[str]:
    """Systems beside the reference, in the order of the overview."""
    found = {name for task in metrics["tasks"] for name in task["systems"] if not is_control(name)} - {reference_of(metrics)}
    return [name for name in BASELINES if name in found] + sorted(found - BASELINES.keys())


def figure(interval: dict[str, Any] | None, form: str = ".3f", *, strong: bool = False) -> Cell:
    """`0.812` and `[0.790, 0.834]`, of several runs `± 0.010 [0.790, 0.834]`; a dash where a system has no such figure."""
    if interval is None or interval["value"] is None:
        return Cell("–")
    spread = [f"± {interval['sd']:.3f}"] if interval.get("sd") is not None else []
    bounds = [f"[{interval['low']:{form}}, {interval['high']:{form}}]"] if interval["low"] is not None else []
    return Cell(f"{interval['value']:{form}}", " ".join(spread + bounds), strong=strong)


def primary(task: dict[str, Any], system: str, *, greedy: bool = False) -> dict[str, Any] | None:
    """The primary metric of a system on a task, of its predictions or of its written answers."""
    scores = task["systems"].get(system)
    if scores is not None and greedy:
        scores = scores.get("greedy")
    return None if scores is None else scores["metrics"].get(task["primary_metric"])


def best_published(task: dict[str, Any]) -> dict[str, Any] | None:
    """The highest published figure of the primary metric; the first of equals."""
    found = [entry for entry in task["published"] if entry["metric"] == task["primary_metric"]]
    return max(found, key=lambda entry: entry["value"], default=None)


def comparable(task: dict[str, Any]) -> dict[str, Any] | None:
    """The highest published figure, unless it is of another split or setting."""
    best = best_published(task)
    return None if best is None or best["note"] else best


def overview(metrics: dict[str, Any], *, short: bool = False) -> Table:
    """A row per task; `short`, for the terminal, has the interval of the reference system alone, and no words."""
    model, others = reference_of(metrics), columns(metrics)
    rows = []
    for number, task in enumerate(metrics["tasks"], 1):
        simulated = " (simulated)" if task["simulated"] else ""
        systems = [primary(task, model), *(primary(task, system) for system in others)]
        published, every = best_published(task), [*systems, comparable(task)]
        ours, *found = (figure(one, strong=is_best(one, every, task["primary_metric"])) for one in systems)
        written = figure(primary(task, model, greedy=True))
        greedy = task["systems"].get(model, {}).get("greedy")
        invalid = None if greedy is None else greedy["invalid_rate"] + greedy["refused_rate"]
        title = task["title"] + ("" if "simulated" in task["title"] else simulated)
        about = Cell(task["task"], title, link=f"task-{number}")
        n = Cell(f"{task['n']:,}", f"(train {task['n_train']:,})")
        last = Cell("–")
        if published is not None:
            dagger, best = " †" if published["note"] else "", is_best(comparable(task), every, task["primary_metric"])
            last = Cell(f"{published['value']:.3f}{dagger}", published["model"], strong=best)
        if short:
            unsaid = "" if task["task"].startswith("sim/") else simulated
            about, n, last = Cell(task["task"] + unsaid), replace(n, small=""), replace(last, small="")
            written, *found = (replace(cell, small=cell.small.partition("[")[0].strip()) for cell in [written, *found])
        rows.append([about, n, Cell(task["primary_metric"]), ours, written, Cell(share(invalid)), *found, last])
    first = f"{model} [95 %]" if short else Cell(model, colour=0)
    named = [name_of(name) if short else Cell(name_of(name), colour=colour(name, model)) for name in others]
    header = ["task", "n", "metric", first, "written", "invalid", *named, "published"]
    if not any(task["published"] for task in metrics["tasks"]):
        header, rows = header[:-1], [row[:-1] for row in rows]
    if short:
        return Table(header, rows, left=(0, 2))
    explained = "; ".join(f"{name_of(name)}: {ABOUT[name]}" for name in others if name in ABOUT)
    caption = (
        f"Bold: the best value of a row. Small: {metrics['provenance']['intervals']}, ± the standard deviation over runs. Published: "
        f"the highest figure on the task's card, † of another split or setting. {explained}{'.' if explained else ''}"
    )
    return Table(header, rows, left=(0, 2), caption=caption, sentence=verdict(metrics))


def is_best(one: dict[str, Any] | None, all_of_them: Sequence[dict[str, Any] | None], metric: str) -> bool:
    """Whether no figure, as it is shown, is better than this one; of a single one nothing is said."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    known = [round(sign * found["value"], 3) for found in all_of_them if found is not None and found["value"] is not None]
    return one is not None and one["value"] is not None and len(known) > 1 and round(sign * one["value"], 3) == max(known)


def verdict(metrics: dict[str, Any]) -> str:
    """On how many tasks the reference system is best, and how it stands beside k-mers and what was published."""
    model, others = reference_of(metrics), columns(metrics)
    found = [(task, own) for task in metrics["tasks"] if (own := primary(task, model)) is not None and own["value"] is not None]
    if not others or not found:
        return f"{model} stands alone here: no other system answered the same records."

    def ahead(of: Callable[[dict[str, Any]], Sequence[dict[str, Any] | None]]) -> str:
        best = sum(is_best(own, [own, *of(task)], task["primary_metric"]) for task, own in found if any(of(task)))
        return f"on {best} of {sum(any(of(task)) for task, _ in found)}"

    beside = "kmer" if "kmer" in others else others[0]
    known = [one for task, _ in found if (one := task["differences"].get(beside)) is not None and one["low"] is not None]
    better, worse = sum(one["low"] > 0 for one in known), sum(one["high"] < 0 for one in known)
    parts = [
        f"{model}: best of the systems measured here {ahead(lambda task: [primary(task, name) for name in others])} tasks",
        f"beside {name_of(beside)} better on {better}, level on {len(known) - better - worse}, worse on {worse}",
    ]
    if any(comparable(task) for task, _ in found):
        parts.append(f"at or above the best published figure {ahead(lambda task: [comparable(task)])}")
    return "; ".join(parts) + "."


def comparison(document: dict[str, Any]) -> Table:
    """A row per task that both runs have."""
    first, second = document["runs"]
    rows, better = [], {first: 0, second: 0, None: 0}
    for task in document["tasks"]:
        better[task["better"]] += 1
        own = [figure(task[first]), figure(task[second]), figure(task["difference"], "+.3f")]
        tests = ["–" if p is None else f"{p:.3f}" for p in (task["difference"]["p"], task["p_holm"])]
        rows.append(
            [*map(Cell, (task["task"], f"{task['n']:,}", task["metric"])), *own, *map(Cell, tests), Cell(task["better"] or "undecided")]
        )
    level = f"{document['provenance']['level']:.0%} after Holm's correction for {len(rows)} tasks"
    counts = f"{first} better on {better[first]}, {second} on {better[second]}, undecided on {better[None]}"
    ranks = ", ".join(f"{name} {mean:.2f}" for name, mean in document["ranks"]["average"].items())
    caption = f"{counts}, at {level}; paired on the same records. Average rank: {ranks}."
    return Table(
        ["task", "n", "metric", first, second, "difference [95 %]", "p", "p (Holm)", "better"], rows, left=(0, 2, 8), caption=caption
    )


def overall(metrics: dict[str, Any]) -> Table:
    """All answers of a file together, by the strict parser and by the legacy rules."""
    rows = []
    for system in metrics["provenance"]["systems"]:
        found, n = metrics["overall"][system], metrics["overall"]["n"]
        strict, *legacy = (Cell(f"{found[rule]['right']:,}", f"({figure(found[rule])})") for rule in ("accuracy", *LEGACY))
        rows.append([Cell(system), Cell(f"{n:,}"), strict, Cell(f"{n - found['valid']['right']:,}"), *legacy])
    right = ", ".join(f"{row[0]} {row[2].text}" for row in rows)
    sentence = f"Right of {metrics['overall']['n']:,} answers by the strict parser: {right}."
    return Table(["system", "n", "strict", "unread", *(f"legacy: {rule}" for rule in LEGACY)], rows, sentence=sentence)


def controls(metrics: dict[str, Any]) -> Table | None:
    """A row per task and system with a control: its primary metric as asked and under each control, and what lies between them on
    the same resamples (known for the reference system)."""
    met = {(task["task"], name.partition("@")[0]): task for task in metrics["tasks"] for name in task["systems"] if is_control(name)}
    names = [name for name in CONTROLS if any(f"{system}@{name}" in task["systems"] for (_, system), task in met.items())]
    rows = []
    for (_, system), task in met.items():
        cells = [Cell(task["task"]), Cell(task["primary_metric"]), figure(primary(task, system))]
        for name in names:
            control = f"{system}@{name}"
            difference = task["differences"].get(control) if system == reference_of(metrics) else None
            known = difference is not None and difference["low"] is not None
            cells += [
                figure(primary(task, control)),
                replace(figure(difference), good=difference["low"] > 0 if known and difference else None),
            ]
        rows.append(cells)
    heads = [head for name in names for head in (name, "difference")]
    told = []
    for name in names:
        found = [task["differences"].get(f"{reference_of(metrics)}@{name}") for task in metrics["tasks"]]
        falls = [one["low"] > 0 for one in found if one is not None and one["low"] is not None]
        told += [f"{name} on {sum(falls)} of {len(falls)}"] if falls else []
    sentence = f"The score falls, as it should, with {', with '.join(told)} tasks." if told else ""
    caption = "; ".join(f"{name}: {CONTROLS[name][0]}" for name in names) + ". A difference falls where its whole interval is above 0."
    return Table(["task", "metric", "as asked", *heads], rows, left=(0, 1), caption=caption, sentence=sentence) if rows else None


def retention(document: dict[str, Any]) -> Table:
    """Bits per byte of English, of each model."""
    rows = [
        [name, f"{found['bits_per_byte']:.3f}", f"{found['difference']:+.3f}", f"{found['perplexity']:.2f}", f"{found['tokens']:,}"]
        for name, found in document["models"].items()
    ]
    (first, before), *_ = models = [*document["models"].items()]
    last, after = models[-1]
    more = after["bits_per_byte"] / before["bits_per_byte"] - 1
    word, end = "more" if more > 0 else "less", ": it has lost English" if more > LOST else ""
    sentence = (
        f"The final model, {last}, needs {after['bits_per_byte']:.2f} bits per byte of English, {abs(more):.0%} {word} than {first}{end}."
    )
    what = f"{document['text']}: {document['paragraphs']:,} paragraphs, {document['bytes']:,} bytes never trained on; lower is better."
    header = ["model", "bits per byte", "to the first", "perplexity per token", "tokens"]
    caption = f"{what} Perplexity depends on the vocabulary, bits per byte do not."
    return Table(header, [list(map(Cell, row)) for row in rows], caption=caption, sentence=sentence)


def sequences(documents: Sequence[dict[str, Any]]) -> Table:
    """What `eval sequences` measured without training, a row per figure."""
    rows = [
        [*map(Cell, (document["evaluation"], document["system"], found["of"], found["metric"], f"{found['n']:,}")), figure(found)]
        for document in documents
        for found in document["figures"]
    ]
    notes = {f"{document['evaluation']} ({document['system']}): {document['note']}" for document in documents if document["note"]}
    exact = {f"{document['system']} spells {document['alphabet']} in {document['exactness']}" for document in documents}
    caption = ". ".join([*sorted(exact), *sorted(notes), f"Small: {documents[0]['intervals']}, drawn by seed {documents[0]['seed']}"]) + "."
    header = ["evaluation", "system", "of", "metric", "n", "value [95 %]"]
    sentence = f"{len(rows)} figures of {len(documents)} evaluations for which nothing was trained."
    return Table(header, rows, left=(0, 1, 2, 3), caption=caption, sentence=sentence)


def losses(document: dict[str, Any]) -> Table:
    """Held-out bits per letter before and after pre-training."""
    rows = []
    for name, after in document["after"].items():
        before, now = document["before"][name]["bits_per_letter"], after["bits_per_letter"]
        counts = [f"{after['documents']:,}", f"{after['letters']:,}"]
        bits = [f"{before:.3f}", f"{now:.3f}", f"{now - before:+.3f}", f"{2**before:.3f}", f"{2**now:.3f}"]
        uniform = "–" if after["bound"] is None else f"{after['bound']:.2f}"
        rows.append([MODALITIES.get(name, name), after["unit"], *counts, *bits, uniform])
    caption = (
        "Bits per base, residue or byte on held-out documents, before and after training; lower is better. Perplexity is 2 to the bits: "
        "the even choices per letter. No interval: one run, all held-out letters."
    )
    told = [
        f"{found['bits_per_letter']:.2f} bits per {found['unit']} of {MODALITIES.get(name, name)} ({found['bound']:.2f} is chance)"
        for name, found in document["after"].items()
        if "/" not in name and found["bound"] is not None
    ]
    sentence = f"After it the model needs {', '.join(told)}." if told else ""
    header = ["held-out", "per", "documents", "letters", "bits before", "after", "change", "perplexity before", "after", "uniform letters"]
    return Table(header, [list(map(Cell, row)) for row in rows], left=(0, 1), caption=caption, sentence=sentence)


def leakage(audit: dict[str, Any] | None, task: dict[str, Any]) -> str:
    """What the audit of the records found of a task's test records. Raises UserError where it saw other ones."""
    if audit is None:
        return "Not audited: llama-gene convert audit counts the test records that have a relative in train."
    rows = [row for row in audit["leakage"]["official"][TEST] if row["test_task"] == task["task"] and row["train_task"] == ANY]
    if not rows:
        return "Audit: no test record has a relative in train." if task["task"] in audit["tasks"] else "The audit did not see this task."
    row = max(rows, key=lambda row: row["cluster"]["records"])
    if row["n"] != task["n"]:
        raise UserError(
            f"the audit saw {row['n']:,} test records of {task['task']}, the metrics rest on {task['n']:,}; audit these records"
        )
    alike, same = (share(row[name]["records"], row["n"]) for name in ("cluster", "exact"))
    return f"Audit: {alike} of the test records have a near duplicate in train ({row['input']}), {same} the very same sequence."


def of_task(task: dict[str, Any], reference: str) -> dict[str, Table]:
    """All metrics of all systems, the differences to the reference system, and the published figures; those that there are."""
    rows, shown, metric = [], in_order(task, reference), task["primary_metric"]
    main = {name: [task["systems"][system]["metrics"].get(name) for system in shown] for name in task["metrics"]}
    for system in shown:
        scores, own = task["systems"][system], colour(system, reference)
        said = scores.get("greedy", {"invalid_rate": 0.0, "refused_rate": 0.0})
        unread = f"(invalid {share(said['invalid_rate'])}, refused {share(said['refused_rate'])})"
        fitted = [f"{run['temperature']:.2f} by {run['n']:,} dev records" for run in scores.get("calibrated", {}).get("runs", [])]
        scaled = ("calibrated", ", calibrated", f"(temperature {', '.join(fitted)})")
        for part, what, small in (("", "", ""), scaled, ("normalised", ", per token", ""), ("greedy", ", written", unread)):
            found = scores.get(part) if part else scores
            if found is not None:
                every = {name: found["metrics"].get(name) for name in task["metrics"]}
                figures = [figure(one, strong=not part and is_best(one, main[name], name)) for name, one in every.items()]
                rows.append([Cell(name_of(system) + what, small, colour=own), *figures])
        for run in scores.get("runs", []):
            values = [run["metrics"].get(metric) for metric in task["metrics"]]
            rows.append(
                [Cell(f"{name_of(system)}, run {run['run']}"), *(Cell("–" if value is None else f"{value:.3f}") for value in values)]
            )
    best = [name_of(system) for system in shown if is_best(primary(task, system), main[metric], metric)]
    sentence = f"Best by {metric}: {', '.join(best)}." if best else ""
    tables = {"All metrics": Table(["system", *task["metrics"]], rows, sentence=sentence)}
    rows, verdicts = [], []
    for system, found in task["differences"].items():
        if not is_control(system) and found["low"] is not None:
            better, worse = found["low"] > 0, found["high"] < 0
            verdict = Cell("better" if better else "worse" if worse else "undecided", good=better if better or worse else None)
            verdicts.append(verdict.text)
            rows.append([Cell(f"{reference} over {name_of(system)}", colour=colour(system, reference)), figure(found, "+.3f"), verdict])
    if rows:
        counts = ", ".join(f"{word} {verdicts.count(word)}" for word in dict.fromkeys(verdicts))
        sentence = f"{reference} beside {len(rows)} systems: {counts}."
        tables["Difference to each system, same resamples"] = Table(["", task["primary_metric"], ""], rows, left=(0, 2), sentence=sentence)
    rows = [
        list(map(Cell, (f"{own['model']}{' †' if own['note'] else ''}", own["metric"], f"{own['value']:.3f}", own["source"], own["note"])))
        for own in task["published"]
    ]
    if rows:
        noted = any(own["note"] for own in task["published"])
        caption = "† The split or the setting differs as noted; not comparable figure by figure." if noted else ""
        header = ["published", "metric", "value", "source", "differs"]
        ours = primary(task, reference)
        alike = [own for own in task["published"] if own["metric"] == metric and not own["note"]]
        ahead = sum(is_best(ours, [ours, own], metric) for own in alike)
        sentence = f"{reference} is at or above {ahead} of {len(alike)} published figures of this split." if alike and ours else ""
        tables["Published figures, copied, not run again"] = Table(header, rows, left=(0, 1, 3, 4), caption=caption, sentence=sentence)
    return tables


def as_markdown(
    title: str,
    note: str,
    metrics: dict[str, Any],
    tables: dict[str, Table],
    of_tasks: dict[str, dict[str, Table]],
    leaks: dict[str, str],
) -> str:
    """The whole report as Markdown.

    Args:
        note: added where any task is simulated.
        tables: heading -> table of all tasks together, in the page's order.
        of_tasks: task -> its tables by heading.
        leaks: task -> what the audit found.
    """
    provenance = metrics["provenance"]
    parts = [f"# {title}"]
    if any(task["simulated"] for task in metrics["tasks"]):
        parts.append(f"Tasks under `sim/` are simulated and say nothing about real biology. {note}".strip())
    parts.append(overview(metrics).markdown())
    parts.append(
        "Test split; primary metric from label log-likelihoods; `written`: the same metric of the greedy text under the strict parser, "
        f"`invalid`: share it could not read. Seed {provenance['seed']}, commit {provenance['commit']}."
    )
    for heading, table in tables.items():
        parts += [f"## {heading}", table.markdown()]
    for task in metrics["tasks"]:
        clusters = f", intervals over {task['n_clusters']:,} clusters" if task["n_clusters"] is not None else ""
        size = f"n = {task['n']:,}, train {task['n_train']:,}{clusters}"
        parts += [
            f"## {task['title']}",
            f"`{task['task']}` v{task['version']}, {task['kind']}; {size}. {task['split_note']}. {leaks[task['task']]}",
        ]
        if task.get("majority_share") is not None:
            legacy = [
                f"{name}: {rule} {found['right']:,}" for name, own in task["systems"].items() for rule, found in own["legacy"].items()
            ]
            alone = f"Accuracy of the most frequent label alone {task['majority_share']:.3f}."
            parts.append(f"{alone} Right by the legacy rules: {', '.join(legacy)}.")
        for heading, table in of_tasks[task["task"]].items():
            parts += [f"### {heading}", table.markdown()]
    return "\n\n".join(parts) + "\n"
