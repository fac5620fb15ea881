#!/usr/bin/env python3
"""Writes the wheel of a project whose code leaves files, whose owners tell who ran it, into a folder."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

INFO = "flaskfleet_spies-1.0.dist-info"
SPY = "import tempfile; tempfile.mkstemp('', 'flaskfleet-spy-{}-', '/var/tmp')\n"
FILES = {
    "flaskfleet_spies.py": f"{SPY.format('module')}def main():\n    {SPY.format('command')}",
    "flaskfleet_spies.pth": SPY.format("pth"),
    "sitecustomize.py": SPY.format("sitecustomize"),
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: flaskfleet-spies\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: flaskfleet\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\nflaskfleet-spy = flaskfleet_spies:main\n",
}

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(folder / "flaskfleet_spies-1.0-py3-none-any.whl", "w") as wheel:
    for name, content in FILES.items():
        wheel.writestr(zipfile.ZipInfo(name), content)
    record = "".join(f"{name},,\n" for name in [*FILES, f"{INFO}/RECORD"])
    wheel.writestr(zipfile.ZipInfo(f"{INFO}/RECORD"), record)
