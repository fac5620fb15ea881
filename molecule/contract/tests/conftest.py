"""Fixtures of the contract tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run(*words)`` runs a command in the project, with its own ansible.cfg."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)

    return command
