"""Files for one reader, made by a fuzzer that sees which lines each of them reaches: `python guided.py NAME FOLDER -runs=29000`.

Ends with an error at the first file that breaks the law of mutants.py, and prints the smallest one like it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["artefacts", "data_convert", "eval", "instruct", "sequences"], enable_loader_override=False):
    import mutants as m


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    target = m.targets(folder)[name]
    path = folder / target.name
    path.parent.mkdir(parents=True, exist_ok=True)
    seeds = folder / "seeds"
    seeds.mkdir()
    (seeds / "good").write_bytes(target.seed)
    words = folder / "words"
    escaped = ("".join(f"\\x{byte:02x}" for byte in marker) for marker in target.markers if len(marker) < 60)
    words.write_text("".join(f'"{marker}"\n' for marker in escaped))

    def once(content: bytes) -> None:
        if (wrong := m.broken_law(target, path, content)) is not None:
            least = m.smaller(target, path, content, wrong)
            raise AssertionError(f"{name}: {least!r}: {m.broken_law(target, path, least)}")

    options = [f"-dict={words}", "-max_len=4000", f"-artifact_prefix={folder}/", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[3:], str(seeds)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
