"""Instruction data of others as conversations: ShareGPT, Alpaca and OpenAI's messages, told by their fields, and a card for each file.

Every answer of the assistant makes a row of its own: the messages before its question (`history`), the `question`, the `answer`. So no
answer is lost, each is trained once, behind the conversation as it was up to there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_convert.tasks.card_fields import DataSource, Files, Prompts
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.kinds import Rejected, is_text

LAYOUTS = ("messages", "conversations", "instruction")
"""The field that tells OpenAI's layout, ShareGPT's, and Alpaca's. A turn is `role` and `content`, or `from` and `value`, in either list."""
ROLES = {"system": "system", "developer": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
Message = dict[str, str]
Turn = tuple[Message, bool]
"""A message, and whether it is trained where it is an answer: OpenAI's `weight: 0` says no."""


def chat_card(path: Path) -> TaskCard:
    """The card of a file of conversations, `chats/<name of the file>`."""
    asked = "{question}"
    return TaskCard(  # type: ignore[call-arg]
        id=f"chats/{Path(path.name.removesuffix('.gz')).stem}",
        version=1,
        title=f"Conversations of {path.name}",
        simulated=False,
        source=DataSource(name=path.name),
        format="chat",
        files=Files(train=path.name),
        test_share=0.1,
        split_note="conversations that begin with the same question stand on one side",
        texts=["question"],
        label="answer",
        kind="text",
        label_evidence="answers as they stand in the file",
        prompts=Prompts(train=[asked], eval=asked),
        metrics=["rouge_l", "bleu", "token_f1", "exact_match"],
        primary_metric="rouge_l",
        max_letters=1 << 30,
        crop="refuse",
    )


def answers(item: dict[str, Any]) -> Iterator[tuple[list[Message], str, str]]:
    """History, question and answer of each trained answer of a conversation.

    Raises:
        Rejected: another layout, a turn without text or of another role, turns out of order, tools; behind the answers, a last question
            without one.
    """
    turns = _turns(item)
    for place, (message, trained) in enumerate(turns):
        if message["role"] == "assistant" and trained:
            *history, question = (before for before, _ in turns[:place])
            yield history, question["content"], message["content"]
    if turns[-1][0]["role"] == "user":
        raise Rejected("a last question without an answer", on_purpose=True)


def _turns(item: dict[str, Any]) -> list[Turn]:
    layouts = [name for name in LAYOUTS if item.get(name) is not None]  # the columns of a table are there where nothing is in them
    if len(layouts) != 1:
        raise Rejected(f"not one of {', '.join(LAYOUTS)}", f"its fields: {', '.join(item)[:60]}")
    if item.get("tools"):
        raise Rejected("tools, which no record has")
    said = _alpaca(item) if layouts == ["instruction"] else item[layouts[0]]
    if not isinstance(said, list):
        raise Rejected("turns that are no list of messages")
    turns = [_turn(turn) for turn in said]
    if item.get("system"):
        turns.insert(0, _turn({"role": "system", "content": item["system"]}))
    turns = [turn for turn in turns if turn[0]["role"] != "system" or turn[0]["content"].strip()]
    if any(not message["content"].strip() for message, _ in turns):
        raise Rejected("a turn without text")
    roles = [message["role"] for message, _ in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or any(role != ("user", "assistant")[place % 2] for place, role in enumerate(spoken)):
        raise Rejected("turns other than user and assistant by turns, behind at most one of system", " ".join(roles)[:60])
    return turns


def _turn(turn: Any) -> Turn:
    if not isinstance(turn, dict):
        raise Rejected("turns that are no list of messages")
    said, text = turn.get("role") or turn.get("from"), turn.get("value") if turn.get("content") is None else turn["content"]
    if (role := ROLES.get(str(said))) is None:
        raise Rejected("a role other than system, user and assistant", f"'{str(said)[:20]}'")
    if isinstance(text, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in text):
        text = "".join(str(part.get("text", "")) for part in text)
    if not is_text(text):
        raise Rejected("a turn without text")
    return {"role": role, "content": str(text)}, turn.get("weight") != 0


def _alpaca(item: dict[str, Any]) -> list[Any]:
    """`history` is a list of earlier questions with their answers, as LLaMA-Factory has it."""
    history = item.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise Rejected("a history that is no list of questions with their answers")
    more = item.get("input") or ""
    if not is_text(item["instruction"]) or (more and not is_text(more)):
        raise Rejected("a turn without text")
    asked = f"{item['instruction']}\n{more}" if more.strip() else item["instruction"]
    pairs: list[Any] = [*history, [asked, item.get("output")]]
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
