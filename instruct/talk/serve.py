"""A model on an OpenAI-compatible endpoint and on a web page: `llama-gene serve`.

The endpoint is the server of transformers, behind a gate (endpoint.py), or of vLLM, run as a child on loopback. It has no limits of
rate: to open it to others, put a proxy in front.
"""

import contextlib
import importlib.util
import ipaddress
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from artefacts.children import child
from artefacts.errors import UserError
from artefacts.recipe import Recipe
from instruct.talk.limits import LOOPBACK
from instruct.talk.session import check_model

FONTS, MONO = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
"""The browser's own: nothing is fetched."""
QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "VLLM_NO_USAGE_STATS": "1"}
"""Nothing is fetched from a hub and no use is reported."""
GRACE = 10.0
"""Seconds that the endpoint may take for its end."""
KEPT = 30.0
"""Seconds after which an upload that nobody has asked about is deleted."""


class ServeRecipe(Recipe):
    """Serve a gene model."""

    model: Path
    """Merged model folder (`merge`)."""
    records: Path | None = None
    """Folder of `convert tasks`: its cards are the page's tasks, its held-out records their examples."""
    tasks: list[str] = ["sim/*"]
    """Without records: ids or patterns of the page's task cards; their examples are made-up letters."""
    page: bool = True
    """The web page."""
    endpoint: bool = True
    """The endpoint, with a copy of the model of its own."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """What serves the endpoint; auto takes vLLM where it is installed."""
    host: str = LOOPBACK
    """Where the page listens; the endpoint stays on loopback."""
    port: int = Field(7860, ge=0, le=65535)
    """Of the page; 0 takes a free one."""
    names: list[str] = []
    """Further names under which page is reached, such as a proxy's; requests under foreign names are refused."""
    endpoint_port: int = Field(8000, ge=0, le=65535)
    """Of the endpoint; 0 takes a free one."""
    max_new_tokens: int = Field(128, ge=1)
    """Longest answer on the page."""
    longest_prompt: int = Field(20_000, ge=1)
    """Letters of a prompt on the page."""
    upload_mib: int = Field(2, ge=1)
    """Largest FASTA file on the page."""
    questions_per_minute: int = Field(30, ge=1)
    """Of one address, on the page."""
    waiting: int = Field(16, ge=1)
    """Questions that may wait on the page while one is answered."""


def check(recipe: ServeRecipe) -> None:
    """Refuse what cannot be served, before anything heavy is imported.

    Raises:
        UserError: no such model, a missing package, neither page nor endpoint.
    """
    check_model(recipe.model)
    if not (recipe.page or recipe.endpoint):
        raise UserError("page=false and endpoint=false leave nothing to serve")
    if recipe.page and not _installed("gradio"):
        raise UserError("the page needs Gradio: `pip install 'llama-gene[web]'`, or pass --no-page")
    if recipe.endpoint and engine_of(recipe) == "transformers" and not (_installed("fastapi") and _installed("openai")):
        raise UserError("the endpoint needs `pip install 'llama-gene[serving]'` or vLLM; or pass --no-endpoint")
    if recipe.endpoint and re.search("[@:]", recipe.model.resolve().name):
        raise UserError(f"{recipe.model}: the endpoint takes @ and : in a name for a revision or file; rename the folder")


def engine_of(recipe: ServeRecipe) -> str:
    """vllm or transformers."""
    if recipe.engine == "auto":
        return "vllm" if _installed("vllm") else "transformers"
    return recipe.engine


def serve(recipe: ServeRecipe) -> int:
    """Serve until Ctrl-C or SIGTERM and return the exit code; the endpoint's process ends with this one.

    Raises:
        UserError: as `check`, and: a port that is taken, an endpoint that does not come up, bad cards or records.
    """
    check(recipe)
    try:
        _serve(recipe)
    except KeyboardInterrupt:
        return 0
    except SystemExit as ended:  # SIGTERM (artefacts.command)
        return int(ended.code or 0)
    raise AssertionError("serving ends with a signal or an error")


def _serve(recipe: ServeRecipe) -> None:
    with contextlib.ExitStack() as stack:
        process = None
        if recipe.endpoint:
            port = _free(LOOPBACK, recipe.endpoint_port, "endpoint_port")
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llama-gene-")))
            # an empty cache: the endpoint can load no other model from there, and has one to list
            (scratch / "hub").mkdir()
            environment = {**os.environ, **QUIET, "HF_HOME": str(scratch), "HF_HUB_CACHE": str(scratch / "hub")}
            folder = recipe.model.resolve()
            # started in the folder above, so that the folder's name is the model's name; -P, so that nothing there is imported
            process = stack.enter_context(child(command(engine_of(recipe), folder.name, port), environment, folder.parent, GRACE))
        uploads = stack.enter_context(_page(recipe)) if recipe.page else None
        if process is not None:
            _wait(process, port)
            print(f"endpoint: http://{LOOPBACK}:{port}/v1 (model {recipe.model.resolve().name}, by {engine_of(recipe)})", flush=True)
        print("Ctrl-C ends it.", flush=True)
        while process is None or process.poll() is None:
            time.sleep(0.2)
            if uploads is not None:
                _sweep(uploads)
        raise UserError(f"the endpoint ended with code {process.returncode}; its own words stand above")


def command(engine: str, name: str, port: int) -> list[str]:
    """What serves the model of that name, which lies in the working folder."""
    if engine == "vllm":
        start = [sys.executable, "-P", "-m", "vllm.entrypoints.cli.main", "serve", name]
        return [*start, "--host", LOOPBACK, "--port", str(port), "--middleware", "instruct.talk.limits.Hosts"]
    return [sys.executable, "-P", "-m", "instruct.talk.endpoint", name, str(port)]


def _sweep(folder: Path) -> None:
    """Delete uploads that were not asked about; Gradio itself keeps them."""
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a question may just have deleted it
            if path.is_file() and path.stat().st_mtime < time.time() - KEPT:
                path.unlink()


@contextlib.contextmanager
def _page(recipe: ServeRecipe) -> Iterator[Path]:
    """The page, and the folder of its uploads."""
    port = _free(recipe.host, recipe.port, "port")
    if not is_loopback(recipe.host):
        print(
            f"warning: host={recipe.host} opens the page to everyone who reaches this machine; there is no password and no encryption",
            file=sys.stderr,
        )
    # gradio calls nobody, and keeps uploads where we say; it reads this when it is imported
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # nobody's word for an address is taken; uvicorn would take that of 127.0.0.1
    os.environ.update(QUIET)
    with tempfile.TemporaryDirectory(prefix="llama-gene-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        import gradio as gr
        from starlette.middleware import Middleware

        from instruct.talk.examples import Examples, cards_of
        from instruct.talk.limits import Guard, Hosts
        from instruct.talk.page import CSS, SCRIPT, Limits, Page, build, facts_of
        from instruct.talk.session import Sampling, Session

        # the page, with its limits
        limits = Limits(recipe.longest_prompt, recipe.upload_mib, recipe.questions_per_minute, recipe.waiting)
        session = Session(recipe.model)
        cards = cards_of(recipe.records, recipe.tasks)
        page = Page(session, cards, Examples(recipe.records), limits, Sampling(recipe.max_new_tokens))
        blocks = build(page, recipe.model.resolve().name, facts_of(session), model_card(recipe.model))
        options: dict[str, Any] = {
            "theme": gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONO),
            "css_paths": CSS,
            "js": SCRIPT.read_text(encoding="utf-8"),
            "app_kwargs": {
                "middleware": [
                    Middleware(Hosts, names=[recipe.host, *recipe.names]),
                    Middleware(Guard, most_bytes=recipe.upload_mib << 20, per_minute=recipe.questions_per_minute),
                ],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
        }
        # the server
        _, address, _ = blocks.launch(
            server_name=recipe.host,
            server_port=port,
            max_file_size=recipe.upload_mib << 20,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=[],
            allowed_paths=[],
            prevent_thread_lock=True,
            quiet=True,
            **options,
        )
        print(f"page: {address}", flush=True)
        try:
            yield Path(uploads)
        finally:
            blocks.close(verbose=False)


def model_card(folder: Path) -> str:
    """The folder's README.md without its YAML header, or what its manifest says."""
    path = folder / "README.md"
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    manifest = folder / "manifest.json"
    if manifest.is_file():
        return f"No README.md in the model's folder. Its manifest:\n\n```json\n{manifest.read_text(encoding='utf-8')}```"
    return "No README.md in the model's folder."


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _free(host: str, port: int, field: str) -> int:
    """The port, or with 0 one that is free now. Raises UserError where it is taken or the host is none of this machine."""
    try:
        with socket.create_server((host, port)) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UserError(f"{host}:{port}: {error.strerror or error}; choose another {field}, or 0 for a free one") from None


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    """Until the endpoint answers. Raises UserError when it ends instead."""
    while process.poll() is None:
        # no proxy of the environment stands between two processes of one machine
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with contextlib.suppress(OSError, urllib.error.URLError):
            opener.open(f"http://{LOOPBACK}:{port}/health", timeout=5).close()
            return
        time.sleep(0.2)
    raise UserError(f"the endpoint did not come up (code {process.returncode}); its own words stand above")


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
