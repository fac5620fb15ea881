#!/usr/bin/env python3
"""Draw what a command shows on a terminal: tools/screenshot.py docs/demo.svg make demo HOSTS=1."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 120  # columns


def run(command: list[str]) -> bytes:
    """Run a command; what it shows on a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(WIDTH)}
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        shown = b""
        while block := _read(ours):
            shown += block
    os.close(ours)
    return shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that the other end is closed
        return b""


def draw(shown: bytes, title: str) -> str:
    """Draw it as an SVG that loads nothing from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(shown.decode().replace("\r\n", "\n").strip()))
    return re.sub(r"@font-face\s*{[^}]*}\s*", "", console.export_svg(title=title))


def main() -> None:
    """Draw what the command shows into the file."""
    path, *command = sys.argv[1:]
    Path(path).write_text(draw(run(command), " ".join(command)))


if __name__ == "__main__":
    main()
