"""A build backend: setuptools', and a file whose owner tells who runs it."""

from __future__ import annotations

import tempfile

from setuptools.build_meta import *  # noqa: F403  a backend's hooks are its names

tempfile.mkstemp("", "flaskfleet-spy-backend-", "/var/tmp")
