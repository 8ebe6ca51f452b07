"""What there is: `llama-gene list`, `schema`, `completion`, `doctor`. Nothing here works on data.

All of them take the words after them, the names of all commands, and what looks a command up.
"""

import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from artefacts.command import Parser, Verb, add_arguments
from artefacts.errors import UserError
from configs import CONFIGS

LISTS = ("tasks", "sources", "recipes")
SHELLS = ("bash", "zsh", "tcsh")
LISTS_AND_MORE = {"list": LISTS, "schema": (), "completion": SHELLS, "doctor": ()}
EXTRAS = {
    "web": ("gradio", "the page of `serve`"),
    "serving": ("fastapi", "the endpoint of `serve`"),
    "harness": ("lm_eval", "the tasks of `eval export` can be run"),
    "qlora": ("bitsandbytes", "`instruct train=qlora`"),
    "gguf": ("gguf", "a base that is a GGUF file"),
    "tracking": ("trackio", "`report_to=[trackio, tensorboard]`"),
    "ray": ("ray", "`engine=ray` of `convert pack` and `convert tasks`, on a cluster"),
    "datatrove": ("datatrove", "`engine=datatrove` of the same, and its Slurm arrays"),
    "vllm": ("vllm", "a faster endpoint of `serve`; it is no extra of ours: `pip install vllm`"),
    "flash_attn": ("flash_attn", "`attention=flash_attention_2` on a GPU: `pip install flash-attn`"),
    "liger": ("liger_kernel", "`loss=liger` on a GPU: `pip install liger-kernel`"),
}
"""Package that tells whether it is there, and what it adds."""


def listing(words: Sequence[str], names: Sequence[str], verb: Callable[[str], Verb]) -> str:
    """`list tasks|sources|recipes`: a line for each, its name first, as other commands take it."""
    what = _one_of(words, LISTS, "list")
    if what == "tasks":
        from data_convert.tasks.cards import find_cards

        rows = [(card.id, f"{card.kind}: {card.title}{' (simulated)' if card.simulated else ''}") for card in find_cards(["*"])]
    elif what == "sources":
        from data_convert.fetch.sources import SOURCES, load_source

        assembly = ":GCF_000005845.2"
        found = [f"{path.stem}{assembly if path.stem == 'refseq' else ''}" for path in sorted(SOURCES.glob("*.yaml"))]
        rows = [(name, f"{(card := load_source(name).card).title}; {card.size}; {card.licence}") for name in found]
    else:
        folders = ("recipes", "pretrain", "instruct", "corpora", "baselines")
        paths = [path for folder in folders for path in (CONFIGS / folder).glob("*.yaml")]
        firsts = {path: path.read_text(encoding="utf-8").splitlines()[0] for path in sorted(paths)}
        rows = [(str(path), first.removeprefix("#").strip() if first.startswith("#") else "") for path, first in firsts.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {said}".rstrip() for name, said in rows)


def schema(words: Sequence[str], names: Sequence[str], verb: Callable[[str], Verb]) -> str:
    """`schema COMMAND`: the JSON schema of its recipe, which editors check a YAML file with."""
    if not words:
        raise UserError("schema: name a command, for example `llama-gene schema tokenizer extend > extend.schema.json`")
    return json.dumps(verb(" ".join(words)).kind.model_json_schema(), indent=1, ensure_ascii=False)


def completion(words: Sequence[str], names: Sequence[str], verb: Callable[[str], Verb]) -> str:
    """`completion SHELL`: a script that completes commands, flags and choices; `eval "$(llama-gene completion bash)"`."""
    import shtab

    shell = _one_of(words, SHELLS, "completion")
    whole = Parser("llama-gene")
    groups: dict[str, Any] = {"": whole.add_subparsers()}
    for name in ["quickstart", *LISTS_AND_MORE, *names]:
        group, above = "", groups[""]
        for word in name.split()[:-1]:
            group = f"{group} {word}".lstrip()
            above = groups[group] = groups.get(group) or above.add_parser(word, help=group).add_subparsers()
        # without a help the library leaves a command out
        parser = above.add_parser(name.split()[-1], help=verb(name).description if name in names else name)
        if name in names:
            add_arguments(parser, verb(name))
            for action in parser._actions:
                if "|" in str(action.metavar):
                    action.choices = str(action.metavar).split("|")
                elif action.metavar:  # what is no choice is a path more often than not
                    action.complete = shtab.FILE
        elif LISTS_AND_MORE.get(name):
            parser.add_argument("what", choices=LISTS_AND_MORE[name])
    return str(shtab.complete(whole, shell))


def doctor(words: Sequence[str], names: Sequence[str], verb: Callable[[str], Verb]) -> str:
    """`doctor`: versions, devices, memory, free disk, and what each package that is missing would add."""
    import torch

    from artefacts.children import cores
    from artefacts.folder import package_versions

    if words:
        raise UserError(f"doctor: takes no words, and was given {' '.join(words)!r}")
    rows = [("python", platform.python_version()), *package_versions().items()]
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        bf16 = "bf16" if found.major >= 8 else "no bf16: use precision=fp32"
        rows.append((f"GPU {number}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB, {bf16}"))
    if not torch.cuda.is_available():
        rows.append(("GPU", "Metal" if torch.backends.mps.is_available() else "none that torch can use; everything runs on the CPU"))
    rows.append(("CPU", f"{cores()} cores, {torch.backends.cpu.get_cpu_capability()}"))
    if hasattr(os, "sysconf"):
        rows.append(("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"))
    rows.append(("free disk here", f"{shutil.disk_usage('.').free / 2**30:.0f} GiB"))
    for name, (package, adds) in EXTRAS.items():
        there = importlib.util.find_spec(package) is not None
        how = "" if there or "pip" in adds else f": `pip install -e '.[{name}]'`"
        rows.append((name, f"{'installed' if there else 'missing'}: {adds}{how}"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {said}" for name, said in rows)


def _one_of(words: Sequence[str], known: Sequence[str], command: str) -> str:
    if len(words) != 1 or words[0] not in known:
        raise UserError(f"{command}: say which, for example `llama-gene {command} {known[0]}`; there are {', '.join(known)}")
    return words[0]
