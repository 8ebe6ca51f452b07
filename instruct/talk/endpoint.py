"""The endpoint's server: that of transformers, behind a gate that knows one model, its context, and what a request looks like.

`python -P -m instruct.talk.endpoint NAME PORT`, in the folder that holds the model; `llama-gene serve` starts it as a child.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artefacts.errors import UserError
from instruct.talk.limits import LOOPBACK, Hosts, read_body, respond
from tokenizer.conversations import prompt_ids

MOST_BYTES = 8 << 20
"""Of a request."""
USUAL = 1024
"""Tokens of an answer to a request that names no number, as transformers has it."""
COLDEST = 0.01
"""Temperature above 0 at which probabilities are still numbers."""
ASKED = "max_completion_tokens", "max_tokens"
NOT_SERVED = "generation_config", "tools", "chat_template_kwargs", "logit_bias"
"""What transformers would take, and what would undo the checks."""
Words = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str | list[Part]


class Question(BaseModel):
    """What both kinds of request may say of the answer; what transformers would ignore without a word is refused where it matters.

    Other fields are left to transformers.
    """

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    frequency_penalty: float | None = Field(None, gt=-1, le=2)
    seed: int | None = Field(None, ge=0, lt=1 << 63)
    stop: Words | Annotated[list[Words], Field(min_length=1)] | None = None
    stream: bool | None = None
    n: Literal[1] | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: Literal[False] | None = None


class ChatQuestion(Question):
    messages: list[Message] = Field(min_length=1)


class CompletionQuestion(Question):
    prompt: str
    suffix: str | None = None


QUESTIONS: Mapping[str, type[Question]] = {"/v1/chat/completions": ChatQuestion, "/v1/completions": CompletionQuestion}


class Gate:
    """ASGI middleware: questions to the one model, its name, and its health; nothing else of the server behind it is reached.

    Answers are bounded by the context. What is no question is answered with 4xx, in the words of OpenAI's errors.
    """

    def __init__(self, app: Any, name: str, tokenizer: Any, context: int, settings: Mapping[str, Any]) -> None:
        """Args: settings: of the folder's generation_config.json."""
        self.app, self.tokenizer, self.context = app, tokenizer, context
        self.sampled = json.dumps({**settings, "do_sample": True})
        self.model = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "llama-gene"}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        asked = scope["method"], scope["path"]
        if asked == ("GET", "/health"):
            await self.app(scope, receive, send)
        elif asked == ("GET", "/v1/models"):
            await _answer(send, 200, {"object": "list", "data": [self.model]})
        elif asked == ("GET", f"/v1/models/{self.model['id']}"):
            await _answer(send, 200, self.model)
        elif asked[0] == "POST" and asked[1] in QUESTIONS:
            await self._question(QUESTIONS[asked[1]], scope, receive, send)
        else:
            known = ", ".join(["GET /v1/models", "GET /health", *(f"POST {path}" for path in QUESTIONS)])
            await _refuse(send, 404, f"{asked[0]} {asked[1]}: not served here; there are {known}")

    async def _question(self, kind: type[Question], scope: Any, receive: Any, send: Any) -> None:
        raw = await read_body(receive, MOST_BYTES)
        if raw is None:
            return await _refuse(send, 413, f"more than {MOST_BYTES:,} bytes")
        try:
            body = await asyncio.to_thread(self._checked, kind, raw)
        except UserError as error:
            return await _refuse(send, 400, str(error))
        headers = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"content-type")]
        headers += [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return waiting.pop() if waiting else await receive()  # afterwards: the client has gone

        await self.app({**scope, "headers": headers}, again, send)

    def _checked(self, kind: type[Question], raw: bytes) -> bytes:
        """The request with as many tokens as there is room for. Raises UserError with what is wrong with it."""
        try:
            body = json.loads(raw)
            question = kind.model_validate(body)
        except ValidationError as error:
            problem = error.errors()[0]
            raise UserError(f"{'.'.join(map(str, problem['loc'])) or 'the request'}: {problem['msg']}") from None
        except (ValueError, RecursionError):
            raise UserError("the request is no JSON object in UTF-8") from None
        if refused := next((name for name in NOT_SERVED if body.get(name) is not None), None):
            raise UserError(f"{refused}: not served here; leave it out")
        if question.temperature and question.temperature < COLDEST:
            raise UserError(f"temperature: 0, or from {COLDEST} to 2")
        length = len(self._ids(question))
        room = self.context - length
        if room < 1:
            raise UserError(f"the prompt has {length:,} tokens, and the model's context {self.context:,} with the answer; shorten it")
        wanted = next((body[name] for name in ASKED if body.get(name) is not None), USUAL)
        kept = {name: value for name, value in body.items() if name not in ASKED}
        if question.temperature:  # transformers would set it, and answer greedily all the same where the folder says so
            kept["generation_config"] = self.sampled
        return json.dumps({**kept, "max_tokens": min(wanted, room)}).encode()

    def _ids(self, question: Question) -> list[int]:
        if isinstance(question, CompletionQuestion):
            return self.tokenizer(_utf8(question.prompt))["input_ids"]
        assert isinstance(question, ChatQuestion)
        said = [
            {"role": turn.role, "content": turn.content if isinstance(turn.content, str) else " ".join(part.text for part in turn.content)}
            for turn in question.messages
        ]
        return prompt_ids(self.tokenizer, said)


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError("prompt: half a character is no text; mend it") from None
    return text


async def _refuse(send: Any, status: int, message: str) -> None:
    await _answer(send, status, {"error": {"message": message, "type": "invalid_request_error", "code": status}})


async def _answer(send: Any, status: int, body: Any) -> None:
    await respond(send, status, json.dumps(body).encode(), b"application/json")


def main(name: str, port: int) -> None:
    """Serve the model of that name, which lies in the working folder, until a signal ends it."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig
    from transformers.cli.serve import Serve
    from transformers.cli.serving import server

    folder = Path(name).resolve()
    tokenizer, context = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder).max_position_embeddings
    settings = GenerationConfig.from_pretrained(folder).to_diff_dict()
    build = server.build_server

    def gated(*arguments: Any, **named: Any) -> Any:
        app = build(*arguments, **named)
        app.add_middleware(Gate, name=name, tokenizer=tokenizer, context=context, settings=settings)
        app.add_middleware(Hosts)
        return app

    server.build_server = gated
    Serve(force_model=name, host=LOOPBACK, port=port, log_level="error", trust_remote_code=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
