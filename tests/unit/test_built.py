"""Built sources: once per platform, complete or not there."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from plugin_utils import built, cache
from plugin_utils.sources import SourceError
from plugin_utils.wheelhouse import BuildFailed

PLATFORM = "debian-12-x86_64-cp311/1a2b3c4d"
KEY = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of built sources."""
    monkeypatch.setattr(built, "BUILT", tmp_path / "built")
    return tmp_path / "built"


class Build:
    """A build that makes one file, or one member of a name; how often it was asked for."""

    def __init__(self, name: str = "./static/app.js") -> None:
        self.name = name
        self.times = 0

    def __call__(self, archive: Path) -> None:
        self.times += 1
        with tarfile.open(archive, "w") as tar:
            member = tarfile.TarInfo(self.name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"js"))


def test_a_built_source_is_cached_by_key_and_platform(folder: Path) -> None:
    made = built.obtain(KEY, PLATFORM, Build())
    assert made == built.place(KEY, PLATFORM) == folder / "0123456789abcdef-debian-12-x86_64-cp311-1a2b3c4d"
    assert (made / "static/app.js").read_text() == "js"


def test_it_is_built_once_for_each_key_and_platform() -> None:
    build = Build()
    for key, platform in ((KEY, PLATFORM), (KEY, PLATFORM), ("f" * 64, PLATFORM), (KEY, "debian-13-x86_64-cp313/2")):
        built.obtain(key, platform, build)
    assert build.times == 3


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd"])
def test_a_link_out_of_the_source_is_refused_and_the_next_run_builds_again(folder: Path, name: str) -> None:
    build = Build(name)
    for _ in range(2):
        with pytest.raises(SourceError, match="what build has made can't be unpacked: has a member"):
            built.obtain(KEY, PLATFORM, build)
    assert build.times == 2
    assert not built.place(KEY, PLATFORM).exists()
    assert list(folder.rglob("outside")) == []


def test_a_build_that_fails_leaves_nothing() -> None:
    def fail(archive: Path) -> None:
        archive.write_bytes(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        built.obtain(KEY, PLATFORM, fail)
    assert not built.place(KEY, PLATFORM).exists()
    assert built.obtain(KEY, PLATFORM, Build()).is_dir()


def test_a_build_that_failed_is_not_tried_again_in_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Path] = []

    def fail(archive: Path) -> None:
        tried.append(archive)
        raise BuildFailed("build on app1: no such script")

    for run in ("1", "1", "2"):
        monkeypatch.setattr(built, "this_run", lambda run=run: run)
        with pytest.raises(BuildFailed, match="build on app1: no such script"):
            built.obtain(KEY, PLATFORM, fail)
    assert len(tried) == 2


def test_a_file_that_is_no_tar_is_refused() -> None:
    with pytest.raises(SourceError, match="what build has made can't be unpacked"):
        built.obtain(KEY, PLATFORM, Path.touch)


def test_old_built_sources_are_removed_except_the_newest(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(cache, "KEPT_SECONDS", -1)
    for number in range(built.KEPT + 2):
        built.obtain(f"{number:064}"[::-1], PLATFORM, Build())
    assert len([path for path in folder.iterdir() if path.name != "locks"]) == built.KEPT
