"""What is seen of a run: losses, speed, held-out bits and samples, on the terminal, in the log and in history.jsonl."""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback

from pretrain.bits import ENGLISH, heldout_bits
from pretrain.blocks import collate, unlearnt_ids
from pretrain.recipe import PretrainRecipe
from sequences.alphabets import ALPHABETS
from training.estimate import flops_per_token, peak_of, sizes_of
from training.loss import IGNORED
from training.marked import marked

BEGINNINGS = {"text": "The"}
"""What a sample of a modality begins with; sequences begin with their tag."""


class Recorder(TrainerCallback):
    """Records training loss, speed, and held-out bits before, during and after; prints them; generates samples.

    What is recorded goes into the trainer's own `log_history`: checkpoints carry it, so a continued run loses nothing and
    repeats nothing.
    """

    def __init__(self, heldout: list[dict[str, Any]], silent: list[int], recipe: PretrainRecipe, tokenizer: Any) -> None:
        self.heldout, self.silent, self.recipe, self.tokenizer = heldout, silent, recipe, tokenizer
        self.trainer: Any = None
        self.seconds = 0.0
        """Training time up to the last logged step, over all parts of a continued run, measurements left out."""
        self._clock = time.monotonic()
        self._shown: list[dict[str, float]] = []  # steps since the last printed line
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._measure(state)
        self.seconds = max((line["seconds"] for line in state.log_history if "seconds" in line), default=0.0)
        hidden = None if self.trainer.is_world_process_zero() else True
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="pretrain", unit="step", disable=hidden)
        self._flops = flops_per_token(sizes_of(self._config()), self.recipe, self._block_tokens())
        known = peak_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        self._peak = self.recipe.peak_tflops * 1e12 if self.recipe.peak_tflops else known
        self._clock = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        elapsed, self._clock = max(now - self._clock, 1e-9), now
        self.seconds += elapsed
        blocks = self.trainer.blocks_per_step
        last = state.global_step * blocks
        real = self.trainer.blocks.order.tokens_between(last - blocks, last)
        self._step = {"seconds": elapsed, "tokens": float(blocks * self._block_tokens()), "real": float(real)}
        self._bar.update()
        if state.global_step >= state.max_steps or state.global_step % self.recipe.evaluate_every == 0:
            self._pending = True
        else:
            self._pending = False

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        step = {**self._step, "loss": logs["loss"]}
        self._shown.append(step)
        if state.global_step % self.recipe.log_every == 0 or state.global_step >= state.max_steps:
            self._show(state, args.world_size, logs["learning_rate"])
        if self._pending:  # after the step's own line, so that the log is in order
            self._measure(state)
            self._clock = time.monotonic()

    def speed(self) -> dict[str, float]:
        """Of the last step, for the log; `mfu` where the peak of the device is known."""
        step, ranks = self._step, self.trainer.args.world_size
        found = {"tokens_per_second": round(step["tokens"] / step["seconds"], 1)}
        found["real_tokens_per_second"] = round(step["real"] / step["seconds"], 1)
        if self._peak:
            found["mfu"] = self._flops * step["tokens"] / step["seconds"] / (ranks * self._peak)
        return {**found, "seconds": self.seconds}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()

    def _show(self, state: Any, ranks: int, rate: float) -> None:
        """One line: the steps since the last one."""
        seconds, tokens, real = (sum(step[name] for step in self._shown) for name in ("seconds", "tokens", "real"))
        loss = sum(step["loss"] for step in self._shown) / len(self._shown)
        per_step = seconds / len(self._shown)
        self._shown = []
        speed = self._flops * tokens / seconds
        of_peak = f", MFU {100 * speed / (ranks * self._peak):.1f} %" if self._peak else f", {speed / 1e9:.1f} GFLOP/s"
        left = time.strftime("%H:%M:%S", time.gmtime((state.max_steps - state.global_step) * per_step))
        days = int((state.max_steps - state.global_step) * per_step // 86400)
        self._print(
            f"step {state.global_step}/{state.max_steps}: loss {loss:.4f}, lr {rate:.2e}, {real / seconds:,.0f} tokens/s "
            f"({tokens / seconds:,.0f} with padding){of_peak}, left {f'{days} d ' if days else ''}{left}"
        )

    def _measure(self, state: Any) -> None:
        model = self.trainer.model
        # names in the order in which a checkpoint gives them back
        found = json.loads(json.dumps(heldout_bits(model, self.heldout, self.silent, self.recipe.micro_batch), sort_keys=True))
        state.log_history.append({"step": state.global_step, "heldout": found})
        bits = {f"eval_{name}_bits_per_{value['unit']}": value["bits_per_letter"] for name, value in found.items()}
        self.trainer.callback_handler.on_log(self.trainer.args, state, self.trainer.control, bits)  # to the trackers
        self._print(
            f"step {state.global_step}: held-out "
            + ", ".join(f"{name} {value['bits_per_letter']:.3f} bits per {value['unit']}" for name, value in found.items())
        )
        if self.recipe.sample_tokens:
            names = sorted({row["modality"] for row in self.heldout} - {ENGLISH})
            for name, text in samples(model, self.tokenizer, names, self.recipe.sample_tokens, self.recipe.seed).items():
                self._print(f"  {name}: {text}")

    def _print(self, line: str) -> None:
        if self.trainer.is_world_process_zero():
            tqdm.write(line)

    def _config(self) -> Any:
        return self.trainer.model.config

    def _block_tokens(self) -> int:
        return len(self.heldout[0]["input_ids"])


@torch.no_grad()
def samples(model: Any, tokenizer: Any, names: list[str], tokens: int, seed: int) -> dict[str, str]:
    """Modality -> a drawn continuation of its beginning. The state of the random numbers is as before afterwards.

    Under ZeRO-3 every rank must call this.
    """
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    was_training = model.training
    model.eval()
    found = {}
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        for name in names:
            start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
            beginning = BEGINNINGS.get(name) or ALPHABETS[name].open_tag
            ids = torch.tensor(
                [[*start, *tokenizer(beginning, add_special_tokens=False).input_ids]], device=next(model.parameters()).device
            )
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=True,
                use_cache=True,
                pad_token_id=tokenizer.eos_token_id,
                synced_gpus=is_deepspeed_zero3_enabled(),
            )
            found[name] = " ".join(tokenizer.decode(out[0, len(start) :], skip_special_tokens=False).split())
    model.train(was_training)
    return found


def history(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of history.jsonl, of the trainer's log: held-out bits per letter, or training loss and speed."""
    lines = []
    for line in log:
        if "heldout" in line:
            bits = {name: value["bits_per_letter"] for name, value in line["heldout"].items()}
            lines.append({"step": line["step"], "heldout": bits})
        elif "loss" in line:
            names = ("step", "loss", "grad_norm", "learning_rate", "tokens_per_second", "real_tokens_per_second", "mfu")
            lines.append({name: line[name] for name in names if name in line})
    return lines


def marked_sample(recipe: PretrainRecipe, tokenizer: Any, row: dict[str, Any]) -> str:
    """A block as the model sees it, tokens without loss in brackets; the middle of a long one is left out."""
    labels = collate([row], unlearnt_ids(recipe.model, list(recipe.no_loss_on)))["labels"][0].numpy()
    return marked(tokenizer, row["input_ids"][: sum(row["seq_lengths"])], labels == IGNORED)
