"""Records per second of `convert tasks` on real GUE files, by processor time of one core, and its peak of memory.

    python benchmarks/convert_tasks.py DATA [--cards 'gue/*'] [--repeat 3]

DATA is a folder with gue/ below it, as `llama-gene convert fetch gue` leaves it; sets whose files are absent are passed over.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from data_convert.tasks.cards import find_cards
from data_convert.tasks.convert import TasksRecipe, convert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cards", default="gue/*")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    cards = find_cards(options.cards.split(","))
    found = [card.id for card in cards if any((options.data / name).is_file() for name in card.files.model_dump().values() if name)]
    print(f"tasks: {', '.join(found)}")
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory() as folder:
            wall, own = time.perf_counter(), time.process_time()
            cards = convert(TasksRecipe(out=Path(folder) / "out", cards=found, source=options.data, missing="skip"))
            wall, own = time.perf_counter() - wall, time.process_time() - own
            records = sum(sum(card.n.values()) for card in cards)
            size = sum(path.stat().st_size for path in (Path(folder) / "out").iterdir()) / 1e6
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{records:,} records, {size:.0f} MB: {own:.2f} s of processor time, {records / own:,.0f} records a second; "
                f"{wall:.2f} s on the clock; peak {peak:.0f} MiB"
            )


if __name__ == "__main__":
    main()
