"""The ledger of converted tasks as a table for the terminal."""

from __future__ import annotations

from pathlib import Path

from artefacts.errors import SET_ASIDE
from artefacts.folder import read_manifest


def summary(folder: Path) -> str:
    """Rows read, written and rejected by file with the reasons, records by split, what disagrees, and token lengths where counted."""
    lines = [f"{'task':<34}{'file':<7}{'read':>9}{'written':>9}{'rejected':>9}  reasons"]
    for task, found in read_manifest(folder, "tasks")["counts"].items():
        if "skipped" in found:
            lines.append(f"{task:<34}{found['skipped']}: skipped")
            continue
        for split, ledger in found["files"].items():
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in ledger["reasons"].items())
            changed = f" ({ledger['cropped']:,} cropped)" if ledger["cropped"] else ""
            lines.append(
                f"{task:<34}{split:<7}{ledger['read']:>9,}{ledger['written']:>9,}{ledger['rejected']:>9,}  {reasons}{changed}".rstrip()
            )
        lines.append(f"{'':<34}records: " + ", ".join(f"{split} {count:,}" for split, count in found["n"].items()))
        if other := {split: count for split, count in found.get("same_input_other_answer", {}).items() if count}:
            rows = ", ".join(f"{split} {count:,}" for split, count in other.items())
            lines.append(f"{'':<34}the same input stands with another answer: {rows}")
        for split, part in found.get("tokens", {}).items():
            shown = [f"{what} " + ", ".join(f"{name} {value:,}" for name, value in part[what].items()) for what in ("prompt", "answer")]
            lines.append(f"{'':<34}tokens in {part['n']:,} {split} records: {'; '.join(shown)}")
    if (folder / SET_ASIDE).is_file():
        lines.append(f"rows set aside: {folder / SET_ASIDE}")
    return "\n".join(lines)
