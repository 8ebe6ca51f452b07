"""What is seen of a pre-training run: speed, held-out bits and samples, on the terminal and in the log."""

import json
import time
from typing import Any

import torch

from pretrain.bits import ENGLISH, heldout_bits
from pretrain.recipe import PretrainRecipe
from sequences.alphabets import ALPHABETS
from training.estimate import flops_per_token, peak_of, sizes_of
from training.watch import RunWatch

BEGINNINGS = {"text": "The", "mixed": "The gene"}
"""What a sample of a modality begins with; sequences begin with their tag."""


class HeldoutWatch(RunWatch):
    """Measures held-out bits before, during and after training, and speed; generates samples."""

    name = "pretrain"

    def __init__(self, recipe: PretrainRecipe, heldout: list[dict[str, Any]], silent: list[int], tokenizer: Any) -> None:
        super().__init__(recipe)
        self.heldout, self.silent, self.tokenizer = heldout, silent, tokenizer
        self.seconds = 0.0
        """Training time up to the last logged step, over all parts of a continued run, measurements left out."""
        self._clock = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._measure(state)
        super().on_train_begin(args, state, control, **kwargs)
        self.seconds = max((line["seconds"] for line in state.log_history if "seconds" in line), default=0.0)
        self._sizes = sizes_of(self.trainer.model.config)
        known = peak_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        self._peak = self.recipe.peak_tflops * 1e12 if self.recipe.peak_tflops else known
        self._clock = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        self._elapsed, self._clock = max(now - self._clock, 1e-9), now
        self.seconds += self._elapsed
        super().on_step_end(args, state, control, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().on_log(args, state, control, logs, **kwargs)
        step, stage_at = state.global_step, self.recipe.stage_at
        ends = step >= state.max_steps or step % self.recipe.evaluate_every == 0 or stage_at(step) != stage_at(step - 1)
        if logs and "loss" in logs and ends:
            self._measure(state)  # after the step's own line, so that the log is in order
            self._clock = time.monotonic()

    def speed(self) -> dict[str, float]:
        """Of the last step, for the log; `mfu` where the peak of the device is known."""
        (tokens, flops), ranks = self._work(self.trainer.state.global_step, 1), self.trainer.args.world_size
        found = {"tokens_per_second": round(tokens / self._elapsed, 1)}
        found["real_tokens_per_second"] = round(self._real_tokens(self.trainer.state.global_step, 1) / self._elapsed, 1)
        if self._peak:
            found["mfu"] = flops / self._elapsed / (ranks * self._peak)
        return {**found, "seconds": self.seconds}

    def speed_of(self, window: list[dict[str, Any]], state: Any) -> str:
        """Tokens a second, the use of the device, and the time that is left."""
        steps, (tokens, flops) = len(window), self._work(state.global_step, len(window))
        before = (line["seconds"] for line in reversed(state.log_history) if "loss" in line and line["step"] < window[0]["step"])
        seconds = window[-1]["seconds"] - next(before, 0)
        speed = flops / seconds
        of_peak = (
            f", MFU {100 * speed / (self.trainer.args.world_size * self._peak):.1f} %" if self._peak else f", {speed / 1e9:.1f} GFLOP/s"
        )
        left = (state.max_steps - state.global_step) * seconds / steps
        days = f"{int(left // 86400)} d " if left >= 86400 else ""
        return (
            f", {self._real_tokens(state.global_step, steps) / seconds:,.0f} tokens/s ({tokens / seconds:,.0f} with padding)"
            f"{of_peak}, left {days}{time.strftime('%H:%M:%S', time.gmtime(left))}"
        )

    def _real_tokens(self, step: int, steps: int) -> int:
        """Tokens without padding of so many steps up to one."""
        blocks = self.trainer.rows_per_step
        return int(self.trainer.rows.tokens_between((step - steps) * blocks, step * blocks))

    def _work(self, step: int, steps: int) -> tuple[int, float]:
        """Tokens with padding, and FLOPs, of so many steps up to one."""
        blocks = self.trainer.rows_per_step
        room = self.trainer.rows.room_between((step - steps) * blocks, step * blocks)
        return sum(room.values()), sum(count * flops_per_token(self._sizes, self.recipe, size) for size, count in room.items())

    def _measure(self, state: Any) -> None:
        # names in the order in which a checkpoint gives them back
        found = json.loads(json.dumps(heldout_bits(self.trainer.model, self.heldout, self.silent, self.recipe.micro_batch), sort_keys=True))
        state.log_history.append({"step": state.global_step, "heldout": found})
        bits = {f"eval_{name}_bits_per_{value['unit']}": value["bits_per_letter"] for name, value in found.items()}
        self.trainer.callback_handler.on_log(self.trainer.args, state, self.trainer.control, bits)  # to the trackers
        self.say(
            f"step {state.global_step}: held-out "
            + ", ".join(f"{name} {value['bits_per_letter']:.3f} bits per {value['unit']}" for name, value in found.items())
        )
        if self.recipe.sample_tokens:
            names = sorted({row["modality"] for row in self.heldout} - {ENGLISH})
            with self.asked() as model:
                found = samples(model, self.tokenizer, names, self.recipe.sample_tokens, self.recipe.seed)
            for name, text in found.items():
                self.say(f"  {name}: {text}")

    @staticmethod
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


@torch.no_grad()
def samples(model: Any, tokenizer: Any, names: list[str], tokens: int, seed: int) -> dict[str, str]:
    """Modality -> a drawn continuation of its beginning. The state of the random numbers is as before afterwards.

    `model` is not to be training. Under ZeRO-3 every rank must call this.
    """
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

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
    return found
