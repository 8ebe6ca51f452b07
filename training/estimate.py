"""Memory, steps and hours of a recipe, computed before anything is loaded: what `--dry-run` prints.

Per rank, with P parameters, P_t of them trained, W ranks, b bytes per weight (2 in bf16, 4 in fp32), L layers of width D
and feed-forward width F, V ids, and a forward pass over N = micro_batch x block_tokens tokens:

    weights      b P        (/ W under ZeRO-3; FSDP2: 4 P / W, gradients 4 P_t / W, optimiser 8 P_t / W)
    gradients    b P_t      (/ W from ZeRO-2 on)
    optimiser    12 P_t     (/ W from ZeRO-1 on; float32 weights and two moments; 0 on the GPU with offload)
    activations  N b (8 D + 2 K + 4 F) per layer, K the width of keys; with activation checkpointing that of one layer
                 and N b D for every layer; for sdpa and eager the mask of the documents, N block_tokens bytes
    loss         chunked: two chunks of logits and the gradient of the head, 4 V D; bases: a chunk in float32 more; full: 12 N V

    FLOPs per token  6 (P - V D), and 6 V D for the head; 6 L D x block_tokens for causal attention; two thirds of the
                     whole where weights have no gradients (LoRA, rows)
    hours            tokens x FLOPs / (GPUs x peak x MFU) / 3600

Buffers of the communication, fragmentation and CUDA's own (1 to 3 GiB) come on top. None of it was measured on a GPU.
"""

import math
from dataclasses import dataclass
from typing import Any

import yaml

from artefacts.errors import UserError
from configs import CONFIGS
from training.launch import zero_of
from training.loss import CHUNK_BYTES
from training.recipe import TrainingRecipe, accumulation_of

GIB = 1 << 30
HARDWARE = {
    "A100": (312.0, 80),
    "H100": (989.4, 80),
    "H200": (989.4, 141),
    "B200": (2250.0, 180),
    "L20": (119.5, 48),
    "L40S": (362.0, 48),
    "4090": (165.2, 24),
}
"""Name, a part of the device's own name -> peak of dense bf16 in TFLOP/s, memory in GB; makers' data sheets."""


@dataclass(frozen=True)
class Sizes:
    """An architecture in numbers."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    rows: int
    """Of each vocabulary matrix."""
    tied: bool
    context: int

    @property
    def body(self) -> int:
        """Parameters outside of the vocabulary matrices."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden) + self.hidden

    @property
    def vocabulary(self) -> int:
        """Parameters of the vocabulary matrices, one or two."""
        return self.rows * self.hidden * (1 if self.tied else 2)


def sizes_of(config: Any, extra_rows: int = 0) -> Sizes:
    """From a configuration, or a file of configs/shapes in the same names."""
    heads = config.num_attention_heads
    return Sizes(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        feed_forward=config.intermediate_size,
        rows=config.vocab_size + extra_rows,
        tied=config.tie_word_embeddings,
        context=config.max_position_embeddings,
    )


def planned_sizes(recipe: TrainingRecipe) -> Sizes:
    """Of the model where it is there, else of the planned shape.

    Raises:
        UserError: no model and no known shape.
    """
    from types import SimpleNamespace

    file = recipe.model / "config.json"
    if file.is_file():
        from transformers import AutoConfig

        return sizes_of(AutoConfig.from_pretrained(recipe.model))
    shapes = {path.stem: path for path in sorted((CONFIGS / "shapes").glob("*.yaml"))}
    if recipe.planned.shape not in shapes:
        raise UserError(f"{recipe.model}: not there yet, and planned.shape={recipe.planned.shape} is none of {', '.join(shapes)}; give one")
    document = yaml.safe_load(shapes[recipe.planned.shape].read_text(encoding="utf-8"))
    rows = math.ceil((document["vocab_size"] + recipe.planned.new_ids) / 64) * 64  # `tokenizer extend` pads so
    return sizes_of(SimpleNamespace(**{**document, "vocab_size": rows}))


def trained(sizes: Sizes, recipe: TrainingRecipe) -> int:
    """Parameters with gradients and optimiser states. Rows that are kept still have states: they are masked, not cut out."""
    vocabulary = sizes.vocabulary if recipe.rows != "none" else 0
    if recipe.train == "all":
        return sizes.body + vocabulary
    if recipe.train == "rows":
        return vocabulary
    wide = sizes.heads * sizes.head_dim
    narrow = sizes.kv_heads * sizes.head_dim
    sides = {
        "q_proj": (sizes.hidden, wide),
        "k_proj": (sizes.hidden, narrow),
        "v_proj": (sizes.hidden, narrow),
        "o_proj": (wide, sizes.hidden),
        "gate_proj": (sizes.hidden, sizes.feed_forward),
        "up_proj": (sizes.hidden, sizes.feed_forward),
        "down_proj": (sizes.feed_forward, sizes.hidden),
    }
    adapted = [sides[name] for name in recipe.lora.targets if name in sides]
    magnitudes = sum(side[1] for side in adapted) if recipe.train == "dora" else 0
    return vocabulary + sizes.layers * (recipe.lora.rank * sum(map(sum, adapted)) + magnitudes)


def total(sizes: Sizes, recipe: TrainingRecipe) -> int:
    """All parameters: with LoRA the adapters, and the copies of the matrices that are trained, come to the model's own."""
    own = sizes.body + sizes.vocabulary
    return own if recipe.train in ("all", "rows") else own + trained(sizes, recipe)


def memory(sizes: Sizes, recipe: TrainingRecipe, ranks: int, block_tokens: int) -> dict[str, float]:
    """Bytes per rank by use; see the top of this file."""
    zero = zero_of(recipe.deepspeed)
    stage = 3 if recipe.fsdp else zero.get("stage", 0)
    offload = zero.get("offload_optimizer", {}).get("device", "none") != "none"
    offload_weights = zero.get("offload_param", {}).get("device", "none") != "none"
    width = 2 if recipe.precision == "bf16" else 4
    everything, moving = total(sizes, recipe), trained(sizes, recipe)
    held = 4 if recipe.fsdp else width
    # 4-bit weights with their scales; norms and the vocabulary stay as they are
    weights = held * everything - (held - 0.52) * sizes.body if recipe.train == "qlora" else held * everything
    tokens = recipe.micro_batch * block_tokens
    layer = tokens * width * (8 * sizes.hidden + 2 * sizes.kv_heads * sizes.head_dim + 4 * sizes.feed_forward)
    layers = tokens * width * sizes.hidden * sizes.layers + layer if recipe.activation_checkpointing else layer * sizes.layers
    mask = 0 if recipe.attention in ("flash_attention_2", "flex_attention") else tokens * block_tokens
    chunked = 2 * CHUNK_BYTES + 4 * sizes.rows * sizes.hidden + (4 * CHUNK_BYTES / width if recipe.scores_bases else 0)
    return {
        "weights": 0 if offload_weights else weights / (ranks if stage == 3 else 1),
        "gradients": held * moving / (ranks if stage >= 2 else 1),
        "optimiser": 0 if offload else (8 if recipe.fsdp else 12) * moving / (ranks if stage >= 1 else 1),
        "activations": layers + mask,
        "loss": 12 * tokens * sizes.rows if recipe.loss == "full" else chunked,
    }


def checkpoint_bytes(sizes: Sizes, recipe: TrainingRecipe) -> int:
    """One checkpoint: weights twice (a model folder and DeepSpeed's own), float32 weights and moments of what is trained."""
    width = 2 if recipe.precision == "bf16" else 4
    return 2 * width * total(sizes, recipe) + 12 * trained(sizes, recipe)


def flops_per_token(sizes: Sizes, recipe: TrainingRecipe, block_tokens: int) -> float:
    """Of the model itself, forward and backward; what activation checkpointing repeats is not counted, as usual for MFU."""
    whole = 6 * (sizes.body + sizes.rows * sizes.hidden) + 6 * sizes.layers * sizes.heads * sizes.head_dim * block_tokens
    return whole if recipe.train == "all" else whole * 2 / 3


def peak_of(device: str) -> float | None:
    """FLOP/s of a GPU by its name as CUDA gives it; None for one that is not in the table, and for a CPU."""
    return next((1e12 * peak for name, (peak, _) in HARDWARE.items() if name in device), None)


def report(recipe: TrainingRecipe, sizes: Sizes, block_tokens: int, epoch_tokens: int, steps: int | None) -> str:
    """The estimate in words and numbers.

    Raises:
        UserError: hardware that is not in the table.
    """
    if recipe.planned.hardware not in HARDWARE:
        raise UserError(f"planned.hardware={recipe.planned.hardware}: choose one of {', '.join(HARDWARE)}")
    peak, room = HARDWARE[recipe.planned.hardware]
    ranks = recipe.ranks * recipe.nodes
    per_step = recipe.micro_batch * accumulation_of(recipe, ranks) * ranks * block_tokens
    steps = recipe.planned_steps or steps or max(1, math.ceil(recipe.epochs * epoch_tokens / per_step))
    parts = memory(sizes, recipe, ranks, block_tokens)
    needed = sum(parts.values())
    flops = flops_per_token(sizes, recipe, block_tokens)
    hours = steps * per_step * flops / (ranks * peak * 1e12 * recipe.planned.mfu) / 3600
    uses = ", ".join(f"{name} {value / GIB:.1f}" for name, value in parts.items())
    lines = [
        f"parameters: {total(sizes, recipe) / 1e9:.2f} G, trained {trained(sizes, recipe) / 1e9:.2f} G, {sizes.rows:,} rows of vocabulary",
        f"tokens per step: {per_step:,} ("
        f"{recipe.micro_batch} blocks of {block_tokens} x {accumulation_of(recipe, ranks)} passes x {ranks} ranks)",
        f"steps: {steps:,}, tokens: {steps * per_step:,}",
        f"memory per rank: {needed / GIB:.1f} GiB ({uses}); {recipe.planned.hardware} has {room * 1e9 / GIB:.0f} GiB"
        + ("" if needed < room * 1e9 else ": too little, take a higher ZeRO stage, a smaller micro_batch or activation_checkpointing"),
        f"checkpoint: {checkpoint_bytes(sizes, recipe) / GIB:.1f} GiB, and {recipe.keep_checkpoints} are kept while one is written",
        f"time: {hours:.1f} hours on {ranks} x {recipe.planned.hardware} at {100 * recipe.planned.mfu:.0f} % of {peak:.0f} TFLOP/s "
        f"({flops / 1e9:.2f} GFLOP per token; assumed, not measured)",
    ]
    return "\n".join(lines)
