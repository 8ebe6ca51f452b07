"""What is seen of a run while it trains: the bar and the lines of loss, the same in both stages."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from training.recipe import TrainingRecipe


class RunWatch(TrainerCallback):
    """Shows a bar and, every `log_every` steps, the mean loss of the steps since the last such line.

    What is recorded goes into the trainer's own `log_history`: checkpoints carry it, so a continued run loses nothing and
    repeats nothing, and its lines are those of a run that nobody disturbed.
    """

    name = ""
    """Of the stage, on the bar."""

    def __init__(self, recipe: TrainingRecipe) -> None:
        self.recipe: Any = recipe
        self.trainer: Any = None
        """Set before training."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        hidden = None if self.trainer.is_world_process_zero() else True
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.name, unit="step", disable=hidden)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step, by_bases = state.global_step, self.recipe.by_bases
        if step and by_bases(step) != by_bases(step - 1):
            way = "by bases" if by_bases(step) else "cross-entropy"
            self.say(f"step {step + 1}: from here on the loss is {way}, and the lines before are another measure")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        step = state.global_step
        if logs and "loss" in logs and (step % self.recipe.log_every == 0 or step >= state.max_steps):
            begun = (step - 1) // self.recipe.log_every * self.recipe.log_every
            lately = takewhile(lambda line: line["step"] > begun, reversed(state.log_history))
            window = [line for line in lately if "loss" in line][::-1]
            loss = sum(line["loss"] for line in window) / len(window)
            self.say(f"step {step}/{state.max_steps}: loss {loss:.4f}, lr {logs['learning_rate']:.2e}{self.speed_of(window, state)}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """The model to write answers with, in the middle of training: without dropout, in the run's
        precision. Its forward alone has that by itself; `generate` of an adapter goes around it."""
        model = self.trainer.model
        was_training = model.training
        model.eval()
        with self.trainer.accelerator.autocast():
            yield model
        model.train(was_training)

    def best(self, state: Any) -> Path | None:
        """The folder of weights that are better than the last; None where there are none."""
        return None

    def history(self, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The lines of history.jsonl, of the trainer's log: the curves that the report draws."""
        raise NotImplementedError

    def speed_of(self, window: list[dict[str, Any]], state: Any) -> str:
        """What the line says of the speed of these logged steps."""
        return ""

    def say(self, line: str) -> None:
        """Print a line above the bar, on the first rank."""
        if self.trainer.is_world_process_zero():
            tqdm.write(line)
