"""What `make docs` adds to the pages: the reference from the docstrings, and links that lead out of docs/ mended.

The same Markdown is read on a code host, where links to source files lead somewhere; on the site they become plain words.
"""

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ABOVE = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Pages of the repository's root that are pages of the site too."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    for name in ABOVE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    for page in re.findall(r"reference/(\w+)\.md", str(config["nav"])):
        found = sorted(path for path in (ROOT / page).rglob("*.py") if not path.name.startswith("_"))
        names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]
        text = f"# {page}\n\n" + "\n\n".join(f"::: {name}" for name in names)
        files.append(File.generated(config, f"reference/{page}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    here = page.file.src_uri  # on the site; in the repository the pages lie below docs/, or at the root
    home = dirname(here if here in ABOVE else f"docs/{here}")

    def mended(link: re.Match[str]) -> str:
        words, target, anchor = link[1], normpath(f"{home}/{link[2]}"), link[3] or ""
        if target in ABOVE or target.startswith("docs/"):
            return f"[{words}]({relpath(target.removeprefix('docs/'), dirname(here) or '.')}{anchor})"
        return f"{words} (`{target}`)"

    return LINK.sub(mended, markdown)
