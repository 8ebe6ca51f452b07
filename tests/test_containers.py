"""Dockerfile, apptainer.def and environment.yml: they parse, name files that are there, and install what pyproject.toml has."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions(text: str) -> list[tuple[str, str]]:
    """(word, the rest) of each line of a Dockerfile, continued lines joined."""
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def check_extras(names: str) -> None:
    assert set(names.split(",")) <= PROJECT["optional-dependencies"].keys()


def python_is_new_enough(version: str) -> bool:
    return tuple(map(int, version.split("."))) >= tuple(map(int, re.findall(r"\d+", PROJECT["requires-python"])))


def test_the_dockerfile() -> None:
    found = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    words = [word for word, _ in found]
    assert set(words) <= {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "ENTRYPOINT", "CMD"}
    arguments = dict(rest.split("=", 1) for word, rest in found if word == "ARG")
    assert words[:2] == ["ARG", "FROM"]
    assert found[1][1] == "${BASE}"
    assert python_is_new_enough(re.findall(r"python:([\d.]+)", arguments["BASE"])[0])
    check_extras(arguments["EXTRAS"])
    for word, rest in found:
        if word == "COPY":
            assert all((ROOT / source).exists() for source in shlex.split(rest)[:-1])
        if word == "RUN":
            assert subprocess.run(["bash", "-n"], input=rest, text=True, capture_output=True).returncode == 0
    assert (ROOT / re.findall(r"pip install .*-c (\S+)", " ".join(rest for _, rest in found))[0]).is_file()
    assert ("ENTRYPOINT", '["llama-gene"]') in found
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv", "runs"} <= set(ignored)
    assert not {"configs", "pyproject.toml", "constraints.txt"} & set(ignored)


def test_the_apptainer_recipe_makes_the_same() -> None:
    text = (ROOT / "apptainer.def").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", text, flags=re.MULTILINE | re.DOTALL))
    assert sections.keys() == {"arguments", "files", "post", "environment", "runscript"}
    arguments = dict(line.strip().split("=", 1) for line in sections["arguments"].split("\n") if line.strip())
    docker = dict(rest.split("=", 1) for word, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")) if word == "ARG")
    assert arguments == docker
    assert set(re.findall(r"\{\{ (\w+) \}\}", text)) == arguments.keys()
    assert (ROOT / sections["files"].split()[0] / "constraints.txt").is_file()
    script = re.sub(r"\{\{ \w+ \}\}", "x", sections["post"])
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).returncode == 0


def test_the_conda_environment() -> None:
    found = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = next(item for item in found["dependencies"] if isinstance(item, str) and item.startswith("python="))
    assert python_is_new_enough(python.partition("=")[2])
    pip = dict(line.split(" ", 1) for line in found["dependencies"][-1]["pip"])
    assert (ROOT / pip["--constraint"]).is_file()
    check_extras(re.findall(r"\[(.+)\]", pip["--editable"])[0])


def test_every_package_is_pinned() -> None:
    """What is installed by name has a version in constraints.txt, so an image of next year is that of today."""
    pinned = {
        re.split(r"[=<>]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    asked = {re.split(r"[\[<>=; ]", name)[0].lower().replace("_", "-") for name in PROJECT["dependencies"]}
    assert asked - pinned == set()


def test_ci_builds_the_image_where_it_can() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], capture_output=True).returncode == 0
    assert "docker build" in script
    assert "image not built" in script
