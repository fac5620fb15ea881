"""A file has its old content or its new one."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet.files import (
    END_BYTES,
    Busy,
    chown_tree,
    fsync_tree,
    group_id,
    lock,
    point_symlink,
    read_ends,
    read_json,
    remove_trees,
    user_id,
    write_file,
    write_json,
)
from conftest import Clock
from interruption import interruptions


def test_write_file_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"new")]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o755, 0o600, 0o2750])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_write_file_sets_the_mode_whatever_the_umask(tmp_path: Path, mode: int, umask: int) -> None:
    os.umask(umask)
    write_file(tmp_path / "a", b"", mode)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_write_file_is_never_readable_for_others_before_it_has_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    monkeypatch.setattr(os, "fchown", lambda descriptor, *_: modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode)))
    write_file(tmp_path / "a", b"secret", 0o640)
    assert modes == [0o600]


def test_write_file_hands_over_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(os, "fchown", lambda descriptor, uid, gid: asked.append((uid, gid)))
    write_file(tmp_path / "a", b"", 0o640, 7, 8)
    assert asked == [(7, 8)]


def test_fsync_tree_reaches_each_file_and_folder_and_follows_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree/empty").mkdir(parents=True)
    for name in ("tree/a", "tree/.b", "outside"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "tree/link").symlink_to("../outside")
    (tmp_path / "tree/folder").symlink_to("..")
    durable: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: durable.append(os.readlink(f"/proc/self/fd/{fd}")))
    fsync_tree(tmp_path / "tree")
    assert sorted(durable) == [f"{tmp_path}/tree{name}" for name in ("", "/.b", "/a", "/empty")]


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A tree as an app's user may make it: 3,000 folders deep, with the longest names and links, a fifo, a socket."""
    root = tmp_path / "deep"
    root.mkdir()
    os.mkfifo(root / "fifo")
    (root / ("n" * 255)).touch()
    (root / "line\nbreak").touch()
    (root / os.fsdecode(b"\xff")).touch()
    (root / "link").symlink_to("a/" * 2047)
    (root / "outside").symlink_to("../outside")
    folder = os.open(root, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d" * 20, dir_fd=folder)
        inner = os.open("d" * 20, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    yield root
    remove_trees(root)


def test_a_tree_of_any_shape_is_removed_and_nothing_that_it_links_to(deep: Path) -> None:
    remove_trees(deep, deep.with_name("missing"))
    assert os.listdir(deep.parent) == ["outside"]
    assert (deep.parent / "outside/file").exists()


def test_chown_tree_changes_a_tree_of_any_shape_and_follows_no_link(deep: Path) -> None:
    outside = deep.parent / "outside/file"
    before = outside.stat().st_ctime_ns
    chown_tree(deep, os.getuid(), os.getgid())
    assert (deep / "fifo").stat().st_uid == os.getuid()
    assert outside.stat().st_ctime_ns == before


def test_a_failed_chown_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        chown_tree(tmp_path / "missing", os.getuid(), os.getgid())


@pytest.mark.parametrize(
    ("size", "skip", "ends"),
    [(0, 0, (0, 0)), (9, 0, (9, 0)), (9, 4, (5, 0)), (9, 9, (9, 0)), (9, 99, (9, 0)), (1 << 30, 0, (END_BYTES,) * 2)],
)
def test_the_beginning_and_the_end_of_a_file_are_read(
    tmp_path: Path, size: int, skip: int, ends: tuple[int, int]
) -> None:
    path = tmp_path / "log"
    path.touch()
    os.truncate(path, size)
    with path.open("rb") as file:
        assert tuple(map(len, read_ends(file, skip))) == ends


def test_interrupted_write_file_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    for step in interruptions(lambda _: write_file(path, b"new")):
        assert path.read_bytes() in (b"old", b"new"), f"after step {step}"
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [("a", b"new")]


def test_write_file_replaces_a_symlink_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "a").symlink_to("target")
    write_file(tmp_path / "a", b"new")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "a").is_symlink()


def test_records_are_equal_files_whatever_the_order_of_their_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": "☃"})
    write_json(tmp_path / "b", {"y": "☃", "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": ["☃"]})
    assert read_json(tmp_path / "a") == {"x": ["☃"]}


def test_a_missing_record_is_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "a") is None


@pytest.mark.parametrize("before", [None, "old", "a-folder"])
def test_point_symlink(tmp_path: Path, before: str | None) -> None:
    (tmp_path / "a-folder").mkdir()
    if before:
        (tmp_path / "current").symlink_to(before)
    point_symlink(tmp_path / "current", "new")
    assert os.readlink(tmp_path / "current") == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"a-folder", "current"}


def test_interrupted_point_symlink_leaves_a_link(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to("old")
    for step in interruptions(lambda _: point_symlink(link, "new")):
        assert os.readlink(link) in ("old", "new"), f"after step {step}"
    assert os.readlink(link) == "new"


def test_ids_of_the_current_user(me: dict[str, str]) -> None:
    assert (user_id(me["owner"]), group_id(me["group"])) == (os.getuid(), os.getgid())


@pytest.mark.parametrize("look_up", [user_id, group_id])
def test_an_unknown_name_is_a_key_error(look_up) -> None:
    with pytest.raises(KeyError, match="nobody-has-this-name"):
        look_up("nobody-has-this-name")


# locks


def test_a_lock_file_has_the_holders_pid(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1234567890")
    with lock(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_lock_makes_its_folder(tmp_path: Path) -> None:
    with lock(tmp_path / "a" / "lock"):
        assert (tmp_path / "a" / "lock").exists()


@pytest.mark.parametrize("patience", [0, 5])
def test_a_process_that_waits_too_long_gets_the_holders_pid(tmp_path: Path, clock: Clock, patience: float) -> None:
    with lock(tmp_path / "lock"), pytest.raises(Busy, match=f"^{os.getpid()}$"), lock(tmp_path / "lock", patience):
        pytest.fail("two have the lock")
    assert clock.passed == pytest.approx(patience, abs=0.2)


def test_a_waiting_process_gets_the_lock_when_it_is_released(tmp_path: Path, clock: Clock) -> None:
    first = lock(tmp_path / "lock")
    first.__enter__()
    clock.at[3] = lambda: first.__exit__(None, None, None)
    with lock(tmp_path / "lock", patience=5):
        assert clock.passed == pytest.approx(3, abs=0.2)


def test_a_lock_is_free_again_after_an_error(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "lock"):
        raise ZeroDivisionError
    with lock(tmp_path / "lock"):
        assert clock.passed == 0
