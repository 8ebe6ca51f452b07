"""Save a tokenizer so that plain `AutoTokenizer`, vLLM and TGI read exactly the file we wrote."""

import json
import re
import shutil
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from artefacts.errors import UserError
from configs import CONFIGS
from sequences.alphabets import ALPHABETS
from tokenizer.base import BYTE_LEVEL, TEMPLATES
from tokenizer.conversations import control_tokens

FAMILIES = {"llama3": {"<|eot_id|>"}, "chatml": {"<|im_start|>", "<|im_end|>"}}
"""Template of configs/chat -> tokens that a byte-level vocabulary has where it is the right one."""
PLAIN = (
    "{#- Control tokens that messages spell are text. -#}"
    "{%- macro gene_plain(text) %}{%- set found = namespace(text=text) %}"
    "{%- for begin, marks in MARKS.items() if begin in text %}{%- for mark in marks %}"
    "{%- set found.text = found.text | replace(mark, mark[0] + ' ' + mark[1:]) %}"
    "{%- endfor %}{%- endfor %}{{- found.text }}{%- endmacro %}"
    "{%- set gene_said = namespace(messages=[]) %}{%- for message in messages %}{%- set plain = message %}"
    "{%- if message['content'] is string %}"
    "{%- set plain = dict(message, role=gene_plain(message['role']), content=gene_plain(message['content'])) %}{%- endif %}"
    "{%- set gene_said.messages = gene_said.messages + [plain] %}{%- endfor %}{%- set messages = gene_said.messages %}\n"
)
"""The line in front of every chat template; MARKS are the control tokens, by their first two characters, since most texts have none."""
THE_DAY = date(2024, 7, 26)
"""What stands for today: the day that Llama 3.1's template names where it knows no other."""
ASKS_TODAY = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<format>[^'"\\]*)(?P=quote)\s*\)""")
HOW = [
    "import json; from transformers import AutoTokenizer  # or the reader that you use instead",
    "tokenizer, ids = AutoTokenizer.from_pretrained(FOLDER), json.load(open(f'{FOLDER}/new_ids.json'))['self_test']['ids']",
    "assert all(tokenizer(text, add_special_tokens=False)['input_ids'] == found for text, found in ids.items())",
]
CARRIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "new_ids.json")


def save_tokenizer(tokenizer: Tokenizer, folder: Path, family: str, config: dict[str, Any]) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja; named templates as additional_chat_templates/NAME.jinja.

    The class is named `PreTrainedTokenizerFast`: model-specific classes of transformers 5 rebuild parts of the file.
    The base's own chat template is kept where it has one, otherwise the family's with generation marks is put in; both behind a line by
    which control tokens in messages are text (`with_plain_messages`), and one more where it writes today's date (`with_fixed_date`).

    Raises:
        UserError: a named chat template whose name is no file name; as `with_fixed_date`.
    """
    given = with_fixed_date(config.get("chat_template") or {})
    tokenizer.save(str(folder / "tokenizer.json"))
    templates = given if isinstance(given, dict) else {"default": given}
    templates["default"] = templates.get("default") or default_template(tokenizer, family)
    templates = {name: with_plain_messages(tokenizer, template) for name, template in templates.items()}
    (folder / "chat_template.jinja").write_text(templates["default"], encoding="utf-8")
    for name, other in templates.items():
        if name == "default":
            continue
        if not re.fullmatch(r"[\w-]+", name):
            raise UserError(f"chat template '{name}': its name would be that of a file; use letters, digits, - and _ alone")
        (folder / TEMPLATES).mkdir(exist_ok=True)
        (folder / TEMPLATES / f"{name}.jinja").write_text(other, encoding="utf-8")
    document = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **{name: value for name, value in config.items() if name != "chat_template"},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def self_test(tokenizer: Tokenizer) -> dict[str, Any]:
    """Texts with the ids that every reader of the folder must give, and how to ask one; for new_ids.json, which goes along everywhere.

    Libraries that declare the tags once more as special tokens cut them out before the tokenizer maps the letters between them, and
    some that read tokenizer.json by code of their own pass over a part of it: sequences are English to them, without a word.
    """
    texts = [f"see {one.open_tag}{one.letters}{one.letters.lower()}{''.join(one.synonyms)}{one.close_tag}." for one in ALPHABETS.values()]
    texts += ["<dna>\nACGTACGTTATAAT\nGATTACA\n</dna> and <protein>MKV", "between <dna> and </dna>", "The gene BRCA1 is 81 kb long."]
    return {"how": HOW, "ids": {text: tokenizer.encode(text, add_special_tokens=False).ids for text in texts}}


def with_fixed_date(template: Any) -> Any:
    """A chat template, or several by name, behind a line that fixes the date where it would write today's; else as it is.

    With today's date a run that is continued tomorrow trains on other tokens, and an evaluation asks in other words.

    Raises:
        UserError: a date asked for in a way that cannot be fixed from outside.
    """
    if isinstance(template, dict):
        return {name: with_fixed_date(one) for name, one in template.items()}
    if "macro strftime_now" in template:  # fixed already
        return template
    if "strftime_now" in re.sub(r"strftime_now\s+is\b", "", ASKS_TODAY.sub("", template)):
        raise UserError(
            "the chat template writes today's date in a way that cannot be fixed (strftime_now without a literal format), so no run "
            f"could be repeated on another day; write a date such as {THE_DAY:%d %b %Y} into the base's chat_template.jinja"
        )
    known = {found["format"]: THE_DAY.strftime(found["format"]) for found in ASKS_TODAY.finditer(template)}
    return f"{{%- macro strftime_now(format) %}}{{{{- {json.dumps(known)}[format] }}}}{{%- endmacro %}}\n{template}" if known else template


def with_plain_messages(tokenizer: Tokenizer, template: str) -> str:
    """A chat template behind a line that writes the control tokens which messages spell with a blank inside, as `conversations` does.

    Whoever reads the folder without this code, a pipeline or a server, then reads messages as chat, evaluation and training do.
    """
    start = PLAIN.partition("#}")[0]
    template = template.partition("\n")[2] if template.startswith(start) else template  # an extension brings a token more
    marks: dict[str, list[str]] = defaultdict(list)
    for token in control_tokens(tokenizer.get_added_tokens_decoder().values(), template):
        marks[token[:2]].append(token)
    return PLAIN.replace("MARKS", json.dumps(marks, ensure_ascii=False)) + template


def carry_tokenizer(source: Path, folder: Path) -> None:
    """Copy a model's tokenizer files into another folder byte for byte; saving it again could rewrite them.

    new_ids.json is carried where there is one: a base that was never extended has none, nor need it have a chat template.

    Raises:
        UserError: no tokenizer.json in `source`.
    """
    if not (source / "tokenizer.json").is_file():
        raise UserError(f"{source}: no tokenizer.json; give a folder that `llama-gene tokenizer extend` or a later stage has written")
    for name in CARRIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if (source / TEMPLATES).is_dir():
        shutil.copytree(source / TEMPLATES, folder / TEMPLATES)


def default_template(tokenizer: Tokenizer, family: str) -> str:
    """Llama 3's headers or ChatML where the vocabulary has their tokens, `[INST]` otherwise."""
    vocabulary = tokenizer.get_vocab().keys() if family == BYTE_LEVEL else set()
    name = next((name for name, tokens in FAMILIES.items() if tokens <= vocabulary), "llama2")
    return (CONFIGS / "chat" / f"{name}.jinja").read_text(encoding="utf-8")


NEW_IDS = "new_ids.json"


def new_ids(folder: Path) -> list[int]:
    """Ids the extension added, from new_ids.json: explicit, since matrices may be padded beyond them.

    Raises:
        UserError: the folder was not extended by `tokenizer extend`.
    """
    path = folder / NEW_IDS
    if not path.is_file():
        raise UserError(f"{folder}: no {NEW_IDS}, so its new rows are unknown; extend it with `llama-gene tokenizer extend`, or rows=all")
    found = json.loads(path.read_text(encoding="utf-8"))
    ids = [found["pad"], *found["tags"].values(), *found["glue"]]
    return sorted({*ids, *(number for first, last in found["pieces"].values() for number in range(first, last + 1))})
