"""What setuptools runs to build the project; who runs it is told by a file's owner."""

from __future__ import annotations

import tempfile

from setuptools import setup

tempfile.mkstemp("", "flaskfleet-spy-setup-", "/var/tmp")
setup()
