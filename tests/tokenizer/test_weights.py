"""Extending a model folder on disk: the same weights as by loading it, in bounded memory, from any kind of base."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from samples import english, forget_weights, letters
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM

from artefacts.errors import UserError
from artefacts.folder import check_room
from sequences.alphabets import NUCLEOTIDES, RESIDUES
from tokenizer.apart import text_shift
from tokenizer.base import locate, read_base
from tokenizer.create import CreateBase, create_base
from tokenizer.extend import ROOM, Extend, extend_base, gather, preview
from tokenizer.report.heldout import Heldout
from tokenizer.report.models import load, start_of
from tokenizer.rows import BLOCK, new_rows, sources
from tokenizer.saving import carry_tokenizer
from tokenizer.vocabulary import extend
from tokenizer.weights import INDEX, INPUT, OUTPUT, SINGLE, Matrix, extend_weights, has_weights, plan, read_header

PROSE = st.text(st.characters(exclude_categories=("Cs", "Co"), exclude_characters="<>"), max_size=40)
SPAN = st.one_of(
    st.tuples(st.just("dna"), st.text(NUCLEOTIDES, max_size=60)),
    st.tuples(st.just("protein"), st.text(RESIDUES, max_size=60)),
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def genes(tmp_path_factory, dna_bpe, protein_bpe):
    folder = tmp_path_factory.mktemp("genes")
    dna_bpe.save(str(folder / "dna.json"))
    protein_bpe.save(str(folder / "protein.json"))
    return {"dna": folder / "dna.json", "protein": folder / "protein.json"}


@pytest.fixture(scope="module", params=["untied", "tied"])
def whole(request, tmp_path_factory, text_file):
    """A base in one file."""
    folder = tmp_path_factory.mktemp(request.param) / "base"
    sizes = {"hidden_size": 32, "layers": 2, "heads": 2, "kv_heads": 1, "intermediate_size": 64}
    create_base(CreateBase(out=folder, text=[text_file], vocab_size=400, tied=request.param == "tied", **sizes))
    return folder


def variant(whole: Path, folder: Path, dtype: torch.dtype, shard: str | None) -> Path:
    """The base in another type, in shards, with a tensor that the model class does not know."""
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("model*"))
    forget_weights(folder)
    model = AutoModelForCausalLM.from_pretrained(whole, dtype=dtype)
    model.get_output_embeddings().weight.data.mul_(50)  # as sure as a trained one, so that new ids are kept out of its text
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    name = sorted(folder.glob("*.safetensors"))[0]
    tensors = load_file(name) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.arange(3)}
    save_file(tensors, name, metadata={"format": "pt"})
    if shard:
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"]["model.layers.0.self_attn.rotary_emb.inv_freq"] = name.name
        index["metadata"]["total_size"] += 24
        (folder / INDEX).write_text(json.dumps(index))
    return folder


def all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("shard", [None, "40KB"], ids=["one-file", "sharded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equal_to_the_bit_to_extending_a_loaded_model(whole, genes, tmp_path, dtype, shard):
    base = variant(whole, tmp_path / "base", dtype, shard)
    extend_base(Extend(base=base, out=tmp_path / "out", seed=5, **genes))
    parts = gather(base, **genes, weights=True)
    source, new = parts.base, parts.new
    shifts, _ = text_shift(load(base), parts, start_of(parts), 12.0, 0.1, 5)
    assert shifts is not None
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    tied = model.config.tie_word_embeddings
    model.resize_token_embeddings(max(new.all) + 1, pad_to_multiple_of=64, mean_resizing=False)
    matrices = [model.get_input_embeddings().weight.data] + ([] if tied else [model.get_output_embeddings().weight.data])
    for offset, matrix in enumerate(matrices):
        spelled = sources(source.tokenizer, new, len(matrix))
        shifted = shifts if tied or offset else None
        for block, rows_ND in new_rows(matrix, min(new.all), spelled, 0.1, 5 + offset, shifts=shifted):
            matrix[torch.tensor(block)] = rows_ND.to(matrix.dtype)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto", output_loading_info=True)
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq"}
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert set(info["unexpected_keys"]) <= extra
    wanted = model.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, wanted[name]), name
    before, after = all_tensors(base), all_tensors(tmp_path / "out")
    assert before.keys() == after.keys() >= extra, "tensors lost or made up"
    assert torch.equal(before[extra.copy().pop()], after[extra.copy().pop()])
    if shard:
        index = json.loads((tmp_path / "out" / INDEX).read_text())
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in after.values())
        assert index["weight_map"] == json.loads((base / INDEX).read_text())["weight_map"]


def test_shards_without_a_matrix_are_the_same_files(whole, genes, tmp_path):
    base = variant(whole, tmp_path / "base", torch.float32, "40KB")
    extend_base(Extend(base=base, out=tmp_path / "out", **genes))
    shards = plan(base, 405, 700, 64).shards
    assert {shard.rewritten for shard in shards} == {True, False}
    for shard in shards:
        same = (base / shard.name).read_bytes() == (tmp_path / "out" / shard.name).read_bytes()
        assert same != shard.rewritten


def test_only_named_keys_of_the_configuration_change(whole, genes, tmp_path, capsys):
    base = tmp_path / "base"
    shutil.copytree(whole, base)
    config = json.loads((base / "config.json").read_text()) | {"rms_norm_eps": 1e-05, "rope_theta": 500000.0, "x": {"vocab_size": 3}}
    (base / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    # transformers refuses to save such a configuration again
    (base / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "num_beams": 4, "eos_token_id": [1, 9]}')
    extend_base(Extend(base=base, out=tmp_path / "out", **genes))
    left_out = (
        "note: greedy answers by default; left out of the base's generation_config.json: do_sample=True, temperature=0.6, num_beams=4"
    )
    assert left_out in capsys.readouterr().out.splitlines()
    assert any(left_out.endswith(note) for note in json.loads((tmp_path / "out" / "extension_report.json").read_text())["notes"])
    rows = load_file(tmp_path / "out" / SINGLE)[INPUT].shape[0]
    before, after = ((folder / "config.json").read_text().splitlines() for folder in (base, tmp_path / "out"))
    changed = [line.strip() for line in after if line not in before]
    new_ids = json.loads((tmp_path / "out" / "new_ids.json").read_text())
    assert sorted(changed) == sorted([f'"vocab_size": {rows},', f'"pad_token_id": {new_ids["pad"]},'])
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert set(generation) == {"do_sample", "eos_token_id", "pad_token_id"}
    assert (generation["do_sample"], generation["pad_token_id"]) == (False, new_ids["pad"])
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    ends = [tokenizer.token_to_id(token) for token in ("<|end_of_text|>", "<|eot_id|>")]
    assert generation["eos_token_id"] == [1, 9, *ends]


# --- rows -------------------------------------------------------------------------------------------------------------


@given(
    parts=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=9), min_size=1, max_size=30),
    by_position=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=100, deadline=None)
def test_a_row_is_the_weighted_mean_of_its_sources(parts, by_position, seed):
    matrix_VD = torch.randn(12, 5, generator=torch.Generator().manual_seed(seed)).double()
    spelled = {12 + index: ids for index, ids in enumerate(parts)}
    rows_ND = torch.cat([block for _, block in new_rows(matrix_VD, 12, spelled, 0.0, seed, by_position=by_position)])
    for row_D, ids in zip(rows_ND, parts, strict=True):
        weights = [1 / (place + 1) if by_position else 1 for place in range(len(ids))]
        wanted_D = sum(weight * matrix_VD[index] for weight, index in zip(weights, ids, strict=True)) / sum(weights)
        torch.testing.assert_close(row_D.double(), wanted_D, rtol=1e-5, atol=1e-6)


def test_noise_is_a_share_of_each_dimensions_deviation_and_new_for_each_row():
    scale_D = torch.tensor([1.0, 10.0, 0.1])
    matrix_VD = torch.randn(500, 3, generator=torch.Generator().manual_seed(1)) * scale_D + 5
    spelled = {500 + index: [7] for index in range(3 * BLOCK + 1)}
    blocks = list(new_rows(matrix_VD, 500, spelled, 0.1, 2))
    rows_ND = torch.cat([rows for _, rows in blocks])
    assert [index for ids, _ in blocks for index in ids] == sorted(spelled)
    torch.testing.assert_close(rows_ND.std(0), 0.1 * matrix_VD.std(0), rtol=0.1, atol=0)
    assert len(rows_ND.unique(dim=0)) == len(rows_ND)
    assert not torch.equal(rows_ND, torch.cat([rows for _, rows in new_rows(matrix_VD, 500, spelled, 0.1, 3)]))


def test_report_of_the_rows(whole, genes, tmp_path):
    extend_base(Extend(base=whole, out=tmp_path / "out", **genes))
    report = json.loads((tmp_path / "out" / "extension_report.json").read_text())
    matrices = all_tensors(tmp_path / "out")
    figures = report["rows"]
    assert figures["tied"] == ("output" not in figures) == (OUTPUT not in matrices)
    new = json.loads((tmp_path / "out" / "new_ids.json").read_text())
    first, last = new["pad"], new["pieces"]["protein"][1] + 1
    for name, tensor in (("input", INPUT), ("output", OUTPUT)):
        if name not in figures:
            continue
        matrix_VD = matrices[tensor][:last]
        assert figures[name]["base_norm"] == pytest.approx(matrix_VD[:first].norm(dim=1).mean().item(), rel=1e-4)
        assert figures[name]["new_norm"] == pytest.approx(matrix_VD[first:].norm(dim=1).mean().item(), rel=1e-4)
        assert figures[name]["new_deviation"] == pytest.approx(matrix_VD[first:].std(0).mean().item(), rel=1e-4)
        cosine_VV = torch.nn.functional.normalize(matrix_VD) @ torch.nn.functional.normalize(matrix_VD).T
        tag = next(entry for entry in figures[name]["neighbours"] if entry["piece"] == "<dna>")
        nearest = cosine_VV[new["tags"]["<dna>"]].topk(6)
        assert [value for _, value in tag["nearest"]] == pytest.approx(nearest.values[1:].tolist(), abs=1e-3)
        kinds = [entry["modality"] for entry in figures[name]["neighbours"]]
        assert {kind: kinds.count(kind) for kind in kinds} == {"dna": 6, "protein": 6, "tag": 6}
        assert all(len(entry["nearest"]) == 5 for entry in figures[name]["neighbours"])
    assert {name: row["letters"] for name, row in report["initial_loss"].items() if name != "text"} == {"dna": 444, "protein": 571}


# --- plans and memory -------------------------------------------------------------------------------------------------


def sparse(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """A safetensors file of the shapes given whose data are a hole: a header, and no blocks on the disk."""
    header, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * {"F32": 4, "BF16": 2, "F8_E4M3": 1}[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with path.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        handle.truncate(8 + len(text) + offset)


def seven_billion(folder: Path) -> None:
    """The shapes of Llama 2 7B in two shards."""
    layer = {f"self_attn.{name}_proj": [4096, 4096] for name in "qkvo"} | {f"mlp.{name}_proj": [11008, 4096] for name in ("gate", "up")}
    layer |= {"mlp.down_proj": [4096, 11008], "input_layernorm": [4096], "post_attention_layernorm": [4096]}
    layers = [{f"model.layers.{i}.{name}.weight": ("BF16", shape) for name, shape in layer.items()} for i in range(32)]
    shards: list[dict[str, tuple[str, list[int]]]] = [{INPUT: ("BF16", [32000, 4096])}, {}]
    for index, tensors in enumerate(layers):
        shards[index >= 23] |= tensors
    shards[1] |= {"model.norm.weight": ("BF16", [4096]), OUTPUT: ("BF16", [32000, 4096])}
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name, tensors in zip(names, shards, strict=True):
        sparse(folder / name, tensors)
    places = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 13476831232}, "weight_map": places}))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "vocab_size": 32000}))


def test_plan_of_a_model_of_7b(tmp_path):
    seven_billion(tmp_path)
    found = plan(tmp_path, 32000, 92_000, 64)
    assert found.rows == 92_032
    growth = 60_032 * 4096 * 2
    stored = sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    assert stored - 13_476_831_232 < 100_000, "the two shards are of Llama 2's size"
    assert found.bytes_written == stored + 2 * growth
    assert found.bytes_read == stored + 2 * (32_000 + 2 * 92_032) * 8192
    assert [(shard.rewritten, shard.bytes_written - shard.bytes_read) for shard in found.shards] == [(True, growth), (True, growth)]
    assert found.peak_bytes < 2**28, "a quarter of a GiB; the two matrices alone are 1.4 GiB, the model 14"


# VmHWM and not ru_maxrss, which a process inherits from the one that starts it; 5 sets VmHWM back to what is in use
MEASURE = r"""
import json, re, sys
from pathlib import Path
import torch
from tokenizer.rows import new_rows
from tokenizer.weights import extend_weights, plan
torch.set_num_threads(1)
list(new_rows(torch.randn(70, 64), 70, {70: [1, 2]}, 0.1, 0))  # what torch loads at first use
def status(name): return 1024 * int(re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])
found = plan(Path(sys.argv[1]), 40_000, 50_000, 64)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
extend_weights(found, Path(sys.argv[2]), {index: [5, 6, 7] for index in range(40_000, found.rows)}, 0.1, 0)
print(json.dumps({"grown": status("VmHWM") - before, "bound": found.peak_bytes}))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_stays_below_the_stated_bound(tmp_path):
    """Measured in a process of its own, on a matrix several times larger than the bound."""
    (tmp_path / "out").mkdir()
    sparse(tmp_path / SINGLE, {"model.norm.weight": ("F32", [512]), INPUT: ("F32", [40_000, 512])})
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
    command = [sys.executable, "-c", MEASURE, str(tmp_path), str(tmp_path / "out")]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True)
    figures = json.loads(run.stdout)
    assert 0 < figures["grown"] < figures["bound"] < 40_000 * 512 * 4 / 2
    matrix = Matrix(read_header(tmp_path / "out" / SINGLE)[0][INPUT])
    assert matrix.stored.shape == (50_048, 512)
    assert not matrix[39_000:50_048].any(), "means of zeros with no deviation"


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    sparse(tmp_path / SINGLE, {"filler": ("F8_E4M3", [free]), INPUT: ("F32", [100, 512])})
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
    with pytest.raises(UserError, match=r"take [\d.]+ .B, but only [\d.]+ .B of disk are free"):
        check_room(tmp_path / "not" / "there" / "yet", plan(tmp_path, 100, 200, 64).bytes_written, *ROOM)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("pickle", "neither model.safetensors nor"),
        ("pointer", "not a complete safetensors file"),
        ("cut", "not a complete safetensors file"),
        ("shard", "missing, though the model's index names it"),
        ("outside", "names files outside its folder"),
        ("lost", "lacks model.norm.weight"),
        ("names", "no tensor model.embed_tokens.weight and lm_head.weight in its weights .GPTNeoXForCausalLM"),
        ("untied", "no tensor lm_head.weight"),
        ("quantised", "F8_E4M3"),
        ("rows", "40 embedding rows but its tokenizer 50 ids"),
        ("config", "not JSON"),
    ],
)
def test_a_damaged_or_foreign_model_is_refused(tmp_path, damage, message):
    tensors = {INPUT: ("F32", [50, 8]), OUTPUT: ("F32", [50, 8]), "model.norm.weight": ("F32", [8])}
    if damage == "names":
        tensors = {"gpt_neox.embed_in.weight": ("F32", [50, 8])}
    elif damage == "untied":
        del tensors[OUTPUT]
    elif damage == "quantised":
        tensors[OUTPUT] = ("F8_E4M3", [50, 8])
    elif damage == "rows":
        tensors[INPUT] = ("F32", [40, 8])
    sparse(tmp_path / SINGLE, tensors)
    places = dict.fromkeys(tensors, SINGLE)
    (tmp_path / "config.json").write_text("{" if damage == "config" else '{"architectures": ["GPTNeoXForCausalLM"]}')
    if damage == "pickle":
        (tmp_path / SINGLE).rename(tmp_path / "pytorch_model.bin")
    elif damage == "pointer":
        (tmp_path / SINGLE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    elif damage == "cut":
        os.truncate(tmp_path / SINGLE, (tmp_path / SINGLE).stat().st_size - 1)
    elif damage in ("shard", "outside", "lost"):
        sharded = "model-1.safetensors"  # a model.safetensors would be preferred to the index
        (tmp_path / SINGLE).rename(tmp_path / sharded)
        if damage == "lost":
            sparse(tmp_path / sharded, {name: tensors[name] for name in (INPUT, OUTPUT)})
        places = dict.fromkeys(tensors, sharded)
        places[OUTPUT] = {"shard": "model-2.safetensors", "outside": "../other.safetensors", "lost": sharded}[damage]
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    with pytest.raises(UserError, match=message):
        _ = has_weights(tmp_path) and plan(tmp_path, 50, 60, 64)


def test_weights_of_another_format_are_refused_unless_the_tokenizer_is_all_that_is_wanted(whole, genes, tmp_path):
    shutil.copytree(whole, tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "base" / "pytorch_model.bin").write_bytes(b"a pickle")
    recipe = Extend(base=tmp_path / "base", out=tmp_path / "out", **genes)
    with pytest.raises(UserError, match=r"save_pretrained.*tokenizer_only=true"):
        extend_base(recipe)
    assert not (tmp_path / "out").exists()
    extend_base(recipe.model_copy(update={"tokenizer_only": True}))
    assert not list((tmp_path / "out").glob("*.bin"))
    assert json.loads((tmp_path / "out" / "extension_report.json").read_text())["initial_loss"] == {"skipped": "no weights were extended"}


# --- bases from the hub, and without a tokenizer.model ----------------------------------------------------------------


OFFLINE = """
import sys
from pathlib import Path
from tokenizer.extend import Extend, extend_base, preview
for only in (False, True):
    recipe = Extend(base="org/name", dna=sys.argv[1], protein=sys.argv[2], out=Path(sys.argv[3]) / str(only), tokenizer_only=only)
    preview(recipe)
    extend_base(recipe)
"""


def test_a_hub_id_is_found_in_the_local_cache_without_a_network(extended_folder, genes, tmp_path):
    whole = extended_folder.parent / "base"
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    (repository / "blobs").mkdir()
    for index, file in enumerate([*whole.iterdir()]):
        shutil.copy(file, repository / "blobs" / str(index))  # as the cache does it: links to blobs
        (snapshot / file.name).symlink_to(f"../../blobs/{index}")
    (snapshot / "LICENSE.txt").write_text("Community")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", OFFLINE, str(genes["dna"]), str(genes["protein"]), str(tmp_path)]
    printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    extend_base(Extend(base=whole, out=tmp_path / "local", **genes))
    for name in (SINGLE, "config.json", "tokenizer.json", "new_ids.json"):
        assert (tmp_path / "False" / name).read_bytes() == (tmp_path / "local" / name).read_bytes(), name
    assert (tmp_path / "False" / "LICENSE.txt").read_text() == "Community"
    assert json.loads((tmp_path / "False" / "manifest.json").read_text())["base_revision"] == revision
    assert not (tmp_path / "True" / SINGLE).exists()
    assert f"extend {SINGLE}" in printed
    assert "weights: none" in printed


def test_what_is_neither_here_nor_on_the_hub():
    with pytest.raises(UserError, match="no such file or folder, and not to be had from the hub"):
        locate("nobody/has-this")
    with pytest.raises(UserError, match="no such file or folder"):
        locate("runs/no/such/folder")


def fast_file(tokenizer: Tokenizer, kind: str) -> Tokenizer:
    """A SentencePiece tokenizer as tokenizer.json files on the hub have it."""
    document = json.loads(tokenizer.to_str())
    copy = Tokenizer.from_str(json.dumps(document))
    if kind == "prepend":
        copy.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        document = json.loads(copy.to_str()) | {"pre_tokenizer": None}
        return Tokenizer.from_str(json.dumps(document))
    if kind == "replace":
        copy.normalizer = normalizers.Replace(" ", "▁")
        return Tokenizer.from_str(json.dumps(json.loads(copy.to_str()) | {"pre_tokenizer": None}))
    if kind != "ours":
        copy = Tokenizer.from_str(json.dumps(document | {"normalizer": None}))
        copy.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=kind, split=False)
    return copy


@pytest.fixture(scope="module", params=["prepend", "replace", "first", "always", "never", "ours"])
def json_only(request, sentencepiece_base, dna_bpe, protein_bpe, tmp_path_factory):
    """(the file as it is, extended tokenizer, new ids)"""
    original = fast_file(sentencepiece_base.tokenizer, request.param)
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    original.save(str(path))
    base = read_base(path)
    assert "the merge order is the json's own" in base.notes[0]
    extended, new, _ = extend(base, dna_bpe, protein_bpe)
    return original, extended, new


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@given(text=PROSE, special=st.sampled_from(["", "</s>", "<s>"]), more=PROSE)
@settings(max_examples=200, deadline=None)
def test_a_sentencepiece_json_keeps_its_text_ids(json_only, text, special, more):
    original, extended, _ = json_only
    assert ids(extended, text + special + more) == ids(original, text + special + more)


@given(
    before=PROSE,
    after=PROSE,
    span=SPAN,
)
@settings(max_examples=200, deadline=None)
def test_a_span_costs_its_own_bpe_over_a_sentencepiece_json(json_only, dna_bpe, protein_bpe, before, after, span):
    _, extended, new = json_only
    tag, sequence = span
    encoded = ids(extended, f"{before}<{tag}>{sequence}</{tag}>{after}")
    names = {index: piece for piece, index in new.pieces[tag].items()}
    inside = encoded[encoded.index(new.tags[f"<{tag}>"]) + 1 : encoded.index(new.tags[f"</{tag}>"])]
    assert [names.get(index) for index in inside] == {"dna": dna_bpe, "protein": protein_bpe}[tag].encode(sequence).tokens


def test_the_sentencepiece_model_beside_a_json_is_preferred(sentencepiece_base, sentencepiece_file, tmp_path):
    fast_file(sentencepiece_base.tokenizer, "first").save(str(tmp_path / "tokenizer.json"))
    shutil.copy(sentencepiece_file, tmp_path / "tokenizer.model")
    for given_as in (tmp_path, tmp_path / "tokenizer.json", tmp_path / "tokenizer.model"):
        base = read_base(given_as)
        assert base.sentencepiece_model == tmp_path / "tokenizer.model"
        assert "tokenizer.json handles blanks otherwise" in base.notes[0]  # Metaspace skips text that begins with a blank
        assert [ids(base.tokenizer, line) for line in english(50)] == [ids(sentencepiece_base.tokenizer, line) for line in english(50)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nfkc", "normalizer NFKC with pre-tokenizer Metaspace is not known"),
        ("split", "normalizer Replace with pre-tokenizer Split is not known"),
        ("merges", "pieces, the first '.*', have no merge"),
        ("bytes", "neither byte-level nor with byte fallback"),
        ("unigram", "a WordLevel tokenizer"),
        ("broken", "not JSON"),
    ],
)
def test_another_kind_of_tokenizer_is_refused(sentencepiece_base, tmp_path, change, message):
    tokenizer = fast_file(sentencepiece_base.tokenizer, "first")
    if change == "nfkc":
        tokenizer.normalizer = normalizers.NFKC()
    elif change == "split":
        tokenizer = fast_file(sentencepiece_base.tokenizer, "replace")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "merged_with_previous")
    document = json.loads(tokenizer.to_str())
    if change == "merges":
        document["model"]["merges"] = document["model"]["merges"][:-20]
    elif change == "bytes":
        document["model"]["byte_fallback"] = False
    elif change == "unigram":
        document["model"] = {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}
    text = json.dumps(document)
    (tmp_path / "tokenizer.json").write_text(text[:-5] if change == "broken" else text)
    with pytest.raises(UserError, match=message):
        read_base(tmp_path)


def test_tokens_added_to_a_sentencepiece_model_keep_their_ids(sentencepiece_file, dna_bpe, protein_bpe, tmp_path):
    """A chat model's <|im_start|> has a trained row behind the SentencePiece vocabulary; new ids must not take it."""
    shutil.copy(sentencepiece_file, tmp_path / "tokenizer.model")
    size = read_base(tmp_path).tokenizer.get_vocab_size()
    added = {str(size + index): {"content": name, "special": True} for index, name in enumerate(("<|im_end|>", "<|im_start|>"))}
    config = {"added_tokens_decoder": added, "eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    base = read_base(tmp_path)
    assert base.config["eos_token"] == "<|im_end|>"
    extended, new, _ = extend(base, dna_bpe, protein_bpe)
    assert ids(extended, "<|im_start|>user<|im_end|>")[0] == size + 1
    assert min(new.all) == size + 2
    del added[str(size)]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    with pytest.raises(UserError, match="does not follow the ids before it"):
        read_base(tmp_path)


# --- loss at initialisation, carrying files ----------------------------------------------------------------------------


def test_initial_loss_of_a_model_that_guesses(whole, genes, tmp_path):
    """With an output of zeros every id is equally likely: bits per letter follow from the token counts alone."""
    base = tmp_path / "base"
    shutil.copytree(whole, base)
    tensors = load_file(base / SINGLE)
    tied = OUTPUT not in tensors
    tensors[INPUT if tied else OUTPUT].zero_()
    save_file(tensors, base / SINGLE, metadata={"format": "pt"})
    forget_weights(base)
    (tmp_path / "dna.fa").write_text(">a\n" + letters("ACGT", 700, 1) + "\n>b\n" + letters("ACGTN", 90, 2) + "\n")
    (tmp_path / "protein.fa").write_text(">a\n" + letters(RESIDUES, 300, 3) + "\n")
    (tmp_path / "text.txt").write_text("\n\n".join(english(120, 4)), encoding="utf-8")
    heldout = Heldout(dna=[tmp_path / "dna.fa"], protein=[tmp_path / "protein.fa"], text=[tmp_path / "text.txt"])
    extend_base(Extend(base=base, out=tmp_path / "out", heldout=heldout, **genes))
    found = json.loads((tmp_path / "out" / "extension_report.json").read_text())["initial_loss"]
    rows = load_file(tmp_path / "out" / SINGLE)[INPUT].shape[0]
    for name, count in (("dna", 790), ("protein", 300)):
        gene = Tokenizer.from_file(str(genes[name]))
        sequences = [line for line in (tmp_path / f"{name}.fa").read_text().splitlines() if not line.startswith(">")]
        windows = [sequence[at : at + 253] for sequence in sequences for at in range(0, len(sequence), 253)]
        tokens = sum(len(gene.encode(window).ids) for window in windows)
        assert found[name]["letters"] == count
        assert found[name]["bits_per_letter"] == pytest.approx(tokens * math.log2(rows) / count, rel=1e-4)
    text = english(120, 4)
    tokens = sum(len(ids(Tokenizer.from_file(str(base / "tokenizer.json")), line)) for line in text)
    size = sum(len(line.encode()) for line in text)
    assert found["text"]["bytes"] == size
    assert found["text"]["bits_per_byte"] == pytest.approx(tokens * math.log2(rows) / size, rel=1e-4)
    assert found["text"]["base_bits_per_byte"] == pytest.approx(tokens * math.log2(tensors[INPUT].shape[0]) / size, rel=1e-4)
    extend_base(Extend(base=base, out=tmp_path / "skipped", heldout=heldout, loss_max_gib=1e-6, **genes))
    skipped = json.loads((tmp_path / "skipped" / "extension_report.json").read_text())["initial_loss"]
    assert "more than loss_max_gib=1e-06" in skipped["skipped"]


def test_preview_writes_nothing(whole, genes, tmp_path, capsys):
    preview(Extend(base=whole, out=tmp_path / "out", **genes))
    printed = capsys.readouterr().out
    assert "405 ids" in printed
    assert "initial loss: loads the model, " in printed
    assert not (tmp_path / "out").exists()


def test_carried_tokenizer_files_are_the_same_bytes(whole, genes, tmp_path):
    extend_base(Extend(base=whole, out=tmp_path / "extended", **genes))
    for source, names in ((tmp_path / "extended", {"new_ids.json"}), (whole, set())):
        target = tmp_path / source.name / "target"
        target.mkdir(parents=True)
        carry_tokenizer(source, target)
        names |= {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
        assert {file.name for file in target.iterdir()} == names
        assert all((target / name).read_bytes() == (source / name).read_bytes() for name in names)
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        carry_tokenizer(tmp_path, tmp_path / "extended")


def test_extend_weights_wants_a_source_for_every_new_row(tmp_path):
    sparse(tmp_path / SINGLE, {INPUT: ("F32", [50, 8]), OUTPUT: ("F32", [50, 8])})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AssertionError):
        extend_weights(plan(tmp_path, 50, 60, 64), tmp_path, {50: [1]}, 0.1, 0)
