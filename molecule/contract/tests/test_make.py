"""The Makefile: what its targets do to the controller's files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT


@pytest.fixture
def engine(tmp_path: Path) -> dict[str, str]:
    """An environment whose docker only records its calls; the machine's own may have somebody's images."""
    docker = tmp_path / "engine/docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    docker.chmod(0o755)
    return {**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}", "DOCKER_HOST": "tcp://127.0.0.1:1"}


@pytest.mark.parametrize("has_cache", [True, False])
def test_clean_keeps_what_can_not_be_made_again(tmp_path: Path, engine: dict[str, str], has_cache: bool) -> None:
    folder = tmp_path / "project"
    kept = [".cache/release.key", ".cache/wheelhouse/a.whl"]
    for name in [
        ".venv/.complete",
        *([*kept, ".cache/built/b", ".cache/.c", ".cache/bundle.tar"] if has_cache else []),
    ]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    command = ["make", "--silent", "--file", str(PROJECT / "Makefile"), "clean"]
    done = subprocess.run(command, cwd=folder, env=engine, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert sorted(files) == (kept if has_cache else [])
    assert (tmp_path / "calls").read_text() == "images -q --filter label=flaskfleet.recipe\n"
