"""A folder of the cache has one user at a time, and no other user of the machine looks into it."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from origins import make_repository, of, own_cache
from plugin_utils.cache import locked
from plugin_utils.sources import fetch

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_cache(tmp_path, monkeypatch)


def test_a_folder_of_the_cache_has_one_user_at_a_time(tmp_path: Path) -> None:
    go, done = FORK.Event(), FORK.Event()

    def wait() -> None:
        go.wait()
        with locked(tmp_path):
            done.set()

    process = FORK.Process(target=wait, daemon=True)
    process.start()
    with locked(tmp_path) as aside:
        go.set()
        assert not done.wait(0.3)
        assert aside.is_dir()
    assert done.wait(10)


def test_others_cannot_look_into_the_cache(tmp_path: Path, cache: Path) -> None:
    origin = make_repository(tmp_path / "origin", app_py="1")
    os.umask(0)
    fetch(of(origin))
    (folder,) = cache.glob("sources/git/*")
    assert folder.stat().st_mode & 0o777 == 0o700
