"""A program beside the app, whose record tells when it began, was told to end, and had finished what it was at."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Event

WORK_SECONDS = 0.5


def note(word: str) -> None:
    """Append a line to the record, which outlives releases."""
    with (Path(os.environ["FLASKFLEET_SHARED"]) / "ticker.log").open("a") as file:
        file.write(f"{word} {os.environ['FLASKFLEET_RELEASE']} {os.getpid()}\n")


def main() -> None:
    """Run until a TERM comes, and the work of that moment is done."""
    told = Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    note("began")
    told.wait()
    note("told")
    time.sleep(WORK_SECONDS)
    note("finished")


if __name__ == "__main__":
    main()
