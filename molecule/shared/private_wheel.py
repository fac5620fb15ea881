#!/usr/bin/env python3
"""Writes the wheel of a project that no index has into a folder."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

INFO = "flaskfleet_private-1.0.dist-info"
# Each interpreter that starts in an environment with it leaves a file, whose owner tells who ran it.
SPY = "import tempfile; tempfile.mkstemp('', 'flaskfleet-spy-', '/var/tmp')\n"
FILES = {
    "flaskfleet_private.py": 'NAME = "private"\n',
    "flaskfleet_private.pth": SPY,
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: flaskfleet-private\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: flaskfleet\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(folder / "flaskfleet_private-1.0-py3-none-any.whl", "w") as wheel:
    for name, content in FILES.items():
        wheel.writestr(zipfile.ZipInfo(name), content)
    record = "".join(f"{name},,\n" for name in [*FILES, f"{INFO}/RECORD"])
    wheel.writestr(zipfile.ZipInfo(f"{INFO}/RECORD"), record)
