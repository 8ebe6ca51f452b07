"""Chat: sequences are wrapped or left alone by rule, and the command answers, remembers and forgets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts.errors import UserError
from instruct.chat import wrap_sequences
from tokenizer.alphabets import DNA, PROTEIN

ENGLISH = [
    "DNA",
    "GATEWAY",
    "GATTACA",
    "PHOSPHORYLATION",
    "IMMUNOHISTOCHEMISTRY",
    "PHOSPHATIDYLINOSITOL",
    "ELECTROENCEPHALOGRAPHY",
    "PHOSPHORIBOSYLTRANSFERASE",
    "the CAT box",
    "IS THIS A PROMOTER?",
]
plain = st.text(st.sampled_from("abcxyz 0123456789.,:;?!()-é\n"), max_size=20)


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_left_alone(text, capsys):
    assert wrap_sequences(f"Explain {text}, please") == f"Explain {text}, please"
    assert capsys.readouterr().err == ""


@given(plain, plain, st.text("ACGTN", min_size=16, max_size=60))
def test_bare_dna_is_wrapped(before, after, letters):
    assert wrap_sequences(f"{before} {letters} {after}") == f"{before} <dna>{letters}</dna> {after}"


@given(plain, plain, st.text("ACDEFGHIKLMNPQRSTVWY", min_size=29, max_size=60))
def test_bare_protein_is_wrapped(before, after, letters):
    sequence = f"M{letters}"  # M is no nucleotide
    assert wrap_sequences(f"{before} {sequence} {after}") == f"{before} <protein>{sequence}</protein> {after}"
    assert wrap_sequences(f"({sequence}*)") == f"(<protein>{sequence}*</protein>)"


@given(st.text("ACGTN", max_size=15), st.text("ACDEFGHIKLMNPQRSTVWY", max_size=28))
def test_short_words_are_left_alone(dna, protein):
    text = f"Is {dna} like M{protein} or not?"
    assert wrap_sequences(text) == text


def test_bare_rna_is_rna(capsys):
    """U makes it RNA, which the tokenizer spells with T; read as a protein it would be nonsense."""
    assert wrap_sequences("Fold AUGGCUAGCUAGGCUAA now") == "Fold <rna>ATGGCTAGCTAGGCTAA</rna> now"
    assert "17 letters) as rna" in capsys.readouterr().err


@given(plain, plain, st.sampled_from(["dna", "protein"]), st.data())
def test_tagged_spans_are_validated(before, after, name, data):
    alphabet = {"dna": DNA, "protein": PROTEIN}[name]
    letters = data.draw(st.text(alphabet.letters, min_size=1, max_size=40))
    wanted = f"{before}<{name}>{letters}</{name}>{after}"
    assert wrap_sequences(wanted) == wanted
    broken = "\n ".join(letters.lower())
    assert wrap_sequences(f"{before}<{name}>{broken}</{name}>{after}") == wanted


def test_several_spans_and_a_bare_sequence():
    text = "Compare <dna>acgt</dna> with GATTACAGATTACAGATTACA and <rna>AUG</rna>."
    assert wrap_sequences(text) == "Compare <dna>ACGT</dna> with <dna>GATTACAGATTACAGATTACA</dna> and <rna>ATG</rna>."


def test_a_foreign_letter_is_refused():
    with pytest.raises(UserError, match=r"'E' at position 3 is not a dna letter"):
        wrap_sequences("Is <dna>ACEGT</dna> a promoter?")
    with pytest.raises(UserError, match="empty protein sequence"):
        wrap_sequences("<protein> </protein>")


@pytest.fixture(scope="module")
def lively_folder(extended_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights: as created, it answers nearly the same to everything."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("lively") / "model"
    shutil.copytree(extended_folder, folder)
    model = AutoModelForCausalLM.from_pretrained(extended_folder)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


def chat(model: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llama_gene", "chat", "--model", str(model), "max_new_tokens=6", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, input=typed, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_one_prompt(extended_folder):
    done = chat(extended_folder, "--prompt", "Is this a promoter? ACGTACGTACGTACGTACGT")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
    assert "[read ACGTACGTACGT… (20 letters) as dna]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_prompt_is_refused_at_once(extended_folder):
    done = chat(extended_folder, "--prompt", "Is <dna>ACEGT</dna> a promoter?")
    assert done.returncode == 2
    assert done.stderr.startswith("error: <dna> in the prompt: 'E' at position 3")


def test_a_conversation(lively_folder):
    """The same question after /new has the same greedy answer as at the start; a mistake does not end the conversation."""
    typed = ["Name it", "Name it", "Is <dna>ACEGT</dna> one?", "word " * 2000, "/new", "Name it", "/quit", "never read"]
    done = chat(lively_folder, typed="\n".join(typed) + "\n")
    assert done.returncode == 0, done.stderr[-2000:]
    banner, *turns = done.stdout.split("you> ")
    assert "/new starts over" in banner
    assert len(turns) == 7
    assert turns[0] == turns[5]
    assert turns[0].strip()
    assert turns[1] != turns[0], "the second turn must see the first"
    assert turns[2].startswith("error: <dna> in the prompt: 'E' at position 3")
    assert turns[3].startswith("error: the conversation has")
    assert turns[4] == turns[6] == ""
    assert chat(lively_folder, typed="").returncode == 0, "the end of input ends it too"
