"""A tree of configuration is on the host as a whole, checked, or not at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet.trees import CheckFailed, File, Tree
from ansible.modules.config_tree import present
from interruption import interruptions

REFUSES = [sys.executable, "-c", "import sys; sys.exit('line 3: unknown directive')"]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree("nginx", tmp_path / "state", tmp_path / "root")


@pytest.fixture
def file(me: dict[str, str]) -> Callable[..., File]:
    """A function that makes a file of the tree, like ``file("a", "content")``."""
    return lambda name, content="x", mode="0644": File(f"/etc/{name}.conf", content, mode, **me)


@pytest.fixture
def files(tree: Tree, file: Callable[..., File]) -> list[File]:
    """The tree that was written before the test."""
    written = [file("a", "a"), file("b", "b"), file("sub/c", "c", "0600")]
    present(tree, written, "1", [], check_mode=False)
    return written


def content(tree: Tree, name: str) -> str:
    return tree.target(f"/etc/{name}.conf").read_text()


# what is written


def test_a_first_write_makes_every_file_with_its_folders(tree: Tree, files: list[File]) -> None:
    assert {file.path: tree.target(file.path).read_text() for file in files} == {
        "/etc/a.conf": "a",
        "/etc/b.conf": "b",
        "/etc/sub/c.conf": "c",
    }


def test_modes_are_as_asked(tree: Tree, files: list[File]) -> None:
    assert [oct(tree.target(file.path).stat().st_mode)[-4:] for file in files] == ["0644", "0644", "0600"]


def test_the_manifest_is_what_was_written(tree: Tree, files: list[File]) -> None:
    written = {file.path: file.record for file in files}
    assert json.loads(tree.manifest.read_text()) == {"tree": "1", "running": None, "service": None, "files": written}


def test_nothing_but_the_manifest_is_left_behind(tree: Tree, files: list[File]) -> None:
    assert [path.name for path in tree.state.iterdir()] == ["manifest.json"]


def test_a_second_write_of_the_same_changes_nothing(tree: Tree, files: list[File]) -> None:
    inodes = [tree.target(file.path).stat().st_ino for file in files]
    assert not present(tree, files, "1", REFUSES, check_mode=False)
    assert [tree.target(file.path).stat().st_ino for file in files] == inodes


def test_only_the_changed_file_is_written(tree: Tree, files: list[File]) -> None:
    files[1] = replace(files[1], content="new")
    changes = present(tree, files, "2", [], check_mode=False)
    assert [file.path for file in changes.write] == ["/etc/b.conf"]
    assert content(tree, "b") == "new"


def test_a_changed_mode_is_set(tree: Tree, files: list[File]) -> None:
    files[1] = replace(files[1], mode="0640")
    changes = present(tree, files, "2", [], check_mode=False)
    assert [file.path for file in changes.write] == ["/etc/b.conf"]
    assert tree.target("/etc/b.conf").stat().st_mode & 0o777 == 0o640


def test_a_new_hash_of_the_same_files_reaches_the_manifest(tree: Tree, files: list[File]) -> None:
    assert not present(tree, files, "2", [], check_mode=False)
    assert json.loads(tree.manifest.read_text())["tree"] == "2"


@pytest.mark.parametrize(
    "drift",
    [
        lambda path: path.write_text("by hand"),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.unlink(),
        lambda path: path.chmod(0o666),
        lambda path: path.rename(path.with_name("moved")) and path.symlink_to("moved"),
        lambda path: path.unlink() or path.symlink_to("nowhere"),
    ],
    ids=["content", "not UTF-8", "removed", "mode", "a symlink to the same content", "a dangling symlink"],
)
def test_drift_is_repaired(tree: Tree, files: list[File], drift: Callable[[Path], object]) -> None:
    path = tree.target("/etc/a.conf")
    drift(path)
    changes = present(tree, files, "1", [], check_mode=False)
    assert [file.path for file in changes.write] == ["/etc/a.conf"]
    assert path.read_text() == "a"
    assert path.lstat().st_mode == 0o100644


def test_bytes_that_are_shown_like_the_wanted_text_are_drift(tree: Tree, file: Callable[..., File]) -> None:
    wanted = [file("a", r"\xff")]
    present(tree, wanted, "1", [], check_mode=False)
    tree.target("/etc/a.conf").write_bytes(b"\xff")
    present(tree, wanted, "1", [], check_mode=False)
    assert content(tree, "a") == r"\xff"


def test_another_owner_is_drift(tree: Tree, files: list[File], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.module_utils.flaskfleet.trees.user_id", lambda name: 4711)
    assert tree.compare(files).write == files


# what is removed


def test_a_file_that_is_no_longer_wanted_is_removed(tree: Tree, files: list[File]) -> None:
    changes = present(tree, files[1:], "2", [], check_mode=False)
    assert changes.remove == ["/etc/a.conf"]
    assert not tree.target("/etc/a.conf").exists()


def test_a_foreign_file_stays(tree: Tree, files: list[File]) -> None:
    foreign = tree.target("/etc/foreign.conf")
    foreign.write_text("mine")
    present(tree, files[1:], "2", [], check_mode=False)
    assert foreign.read_text() == "mine"


def test_a_file_that_was_removed_already_is_no_change(tree: Tree, files: list[File]) -> None:
    tree.target("/etc/a.conf").unlink()
    assert not present(tree, files[1:], "2", [], check_mode=False)


def test_a_removed_file_is_not_removed_again(tree: Tree, files: list[File]) -> None:
    present(tree, files[1:], "2", [], check_mode=False)
    tree.target("/etc/a.conf").write_text("now it is somebody else's")
    assert not present(tree, files[1:], "2", [], check_mode=False)


# the checker


def test_a_refused_tree_changes_nothing(tree: Tree, files: list[File], snapshot) -> None:
    before = snapshot(tree.root), snapshot(tree.state)
    with pytest.raises(CheckFailed):
        present(tree, [replace(files[0], content="broken")], "2", REFUSES, check_mode=False)
    assert (snapshot(tree.root), snapshot(tree.state)) == before


def test_a_refusal_has_the_checkers_output(tree: Tree, files: list[File]) -> None:
    with pytest.raises(CheckFailed, match="line 3: unknown directive"):
        present(tree, files[1:], "2", REFUSES, check_mode=False)


def test_the_checkers_output_has_paths_of_the_host(tree: Tree, files: list[File]) -> None:
    checker = [sys.executable, "-c", "import sys; sys.exit('in ' + sys.argv[1])", "{stage}/etc/a.conf"]
    with pytest.raises(CheckFailed, match=r"in /etc/a\.conf$"):
        present(tree, files[1:], "2", checker, check_mode=False)


def test_the_checker_sees_the_complete_tree(tree: Tree, files: list[File], tmp_path: Path) -> None:
    """The unchanged files, too, and none that is no longer wanted."""
    seen = tmp_path / "seen"
    checker = [sys.executable, "-c", "import shutil, sys; shutil.copytree(*sys.argv[1:])", "{stage}", str(seen)]
    present(tree, [replace(files[0], content="new"), files[2]], "2", checker, check_mode=False)
    assert {str(path.relative_to(seen)): path.read_text() for path in seen.rglob("*.conf")} == {
        "etc/a.conf": "new",
        "etc/sub/c.conf": "c",
    }


def test_the_checker_runs_before_the_first_file_is_moved(tree: Tree, files: list[File], tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    live = str(tree.target("/etc/a.conf"))
    checker = [sys.executable, "-c", "import shutil, sys; shutil.copy(*sys.argv[1:])", live, str(seen)]
    present(tree, [replace(file, content="new") for file in files], "2", checker, check_mode=False)
    assert seen.read_text() == "a"


def test_a_missing_checker_changes_nothing(tree: Tree, files: list[File], snapshot) -> None:
    before = snapshot(tree.root)
    with pytest.raises(OSError, match="no-such-checker"):
        present(tree, files[1:], "2", ["/no-such-checker"], check_mode=False)
    assert snapshot(tree.root) == before


# what can't be written is refused before anything changes


@pytest.mark.parametrize(
    ("in_the_way", "error"),
    [
        (lambda root: (root / "etc/z").write_text("a file"), NotADirectoryError),
        (lambda root: (root / "etc/z/z.conf").mkdir(parents=True), IsADirectoryError),
    ],
    ids=["a file where a folder is needed", "a folder where a file is needed"],
)
def test_something_in_the_way_is_refused_before_the_first_file_is_written(
    tree: Tree, files: list[File], file: Callable[..., File], in_the_way, error: type[OSError], snapshot
) -> None:
    in_the_way(tree.root)
    before = snapshot(tree.root)
    with pytest.raises(error, match=r"etc/z/z\.conf"):
        present(tree, [replace(files[0], content="new"), file("z/z")], "2", [], check_mode=False)
    assert snapshot(tree.root) == before
    assert not tree.journal.exists()


def test_an_unknown_owner_is_refused_before_the_first_file_is_written(tree: Tree, files: list[File], snapshot) -> None:
    before = snapshot(tree.root)
    wanted = [replace(files[0], content="new"), replace(files[1], owner="nobody-has-this-name")]
    with pytest.raises(KeyError):
        present(tree, wanted, "2", [], check_mode=False)
    assert snapshot(tree.root) == before
    assert not tree.journal.exists()


# interruptions


def test_an_interrupted_apply_is_finished_by_the_next(
    tmp_path: Path, file: Callable[..., File], snapshot: Callable[[Path], dict]
) -> None:
    """At each point each file is old or new, and another run leads to the new tree with nothing left over."""
    old = [file("a", "old a"), file("b", "old b"), file("gone", "gone")]
    new = [file("a", "new a"), file("b", "new b", "0600"), file("sub/c", "new c")]
    allowed = {
        "etc": {None},
        "etc/sub": {None},
        "etc/a.conf": {b"old a", b"new a"},
        "etc/b.conf": {b"old b", b"new b"},
        "etc/gone.conf": {b"gone"},
        "etc/sub/c.conf": {b"new c"},
    }

    def tree(number: int) -> Tree:
        return Tree("nginx", tmp_path / str(number) / "state", tmp_path / str(number) / "root")

    def apply(number: int) -> None:
        present(tree(number), new, "2", [], check_mode=False)

    present(tree(0), old, "1", [], check_mode=False)
    expected = None
    for number in interruptions(apply):
        left = snapshot(tree(number).root)
        assert {"etc/a.conf", "etc/b.conf"} <= left.keys()
        assert all(left[path][1] in allowed[path] for path in left if not path.endswith(".new")), (
            f"interrupted before step {number}: {left}"
        )
        apply(number)
        expected = expected or snapshot(tree(number).root)
        assert snapshot(tree(number).root) == expected
        assert not tree(number).journal.exists()
        assert json.loads(tree(number).manifest.read_text())["tree"] == "2"
        present(tree(number + 1), old, "1", [], check_mode=False)
    assert {path: entry[1] for path, entry in expected.items()} == {
        "etc": None,
        "etc/a.conf": b"new a",
        "etc/b.conf": b"new b",
        "etc/sub": None,
        "etc/sub/c.conf": b"new c",
    }


def test_roll_forward_finishes_the_apply_in_the_journal(tree: Tree, files: list[File]) -> None:
    """Even if another tree is wanted by then."""
    wanted = [replace(files[0], content="new")]
    tree.check(wanted, [])
    tree.journal.write_text(
        json.dumps(
            {
                "write": ["/etc/a.conf"],
                "remove": ["/etc/b.conf"],
                "manifest": {"tree": "2", "files": {wanted[0].path: wanted[0].record}},
            }
        )
    )
    assert tree.roll_forward()
    assert content(tree, "a") == "new"
    assert not tree.target("/etc/b.conf").exists()
    assert [path.name for path in tree.state.iterdir()] == ["manifest.json"]


def test_roll_forward_without_a_journal_does_nothing(tree: Tree, files: list[File], snapshot) -> None:
    before = snapshot(tree.root), snapshot(tree.state)
    assert not tree.roll_forward()
    assert (snapshot(tree.root), snapshot(tree.state)) == before


# the diff


@pytest.mark.parametrize(
    ("drift", "before"),
    [
        (lambda path: path.write_text("by hand\n"), "by hand\n"),
        (lambda path: path.write_bytes(b"\xffx"), r"\xffx"),
        (lambda path: path.unlink(), ""),
    ],
    ids=["changed", "not UTF-8", "missing"],
)
def test_the_diff_has_the_content_before_and_after(tree: Tree, files: list[File], drift, before: str) -> None:
    drift(tree.target("/etc/a.conf"))
    assert tree.compare(files).diff == [
        {"before_header": "/etc/a.conf", "after_header": "/etc/a.conf", "before": before, "after": "a"}
    ]


def test_the_diff_of_a_removed_file_is_its_content(tree: Tree, files: list[File]) -> None:
    assert tree.compare(files[1:]).diff == [
        {"before_header": "/etc/a.conf", "after_header": "/etc/a.conf", "before": "a", "after": ""}
    ]


def test_a_changed_mode_has_no_diff(tree: Tree, files: list[File]) -> None:
    tree.target("/etc/a.conf").chmod(0o600)
    changes = tree.compare(files)
    assert (changes.write, changes.diff) == ([files[0]], [])


def test_what_others_may_not_read_has_no_diff(tree: Tree, files: list[File]) -> None:
    secret = File("/etc/key.pem", "canary", "0600", *(files[0].owner, files[0].group))
    changes = tree.compare([*files, secret])
    assert (changes.write, changes.diff) == ([secret], [])
    record = {
        "tree": "1",
        "running": None,
        "service": None,
        "files": {one.path: one.record for one in [*files, secret]},
    }
    tree.check([*files, secret], [])
    tree.apply(record, changes)
    assert tree.target("/etc/key.pem").stat().st_mode & 0o777 == 0o600
    removed = tree.compare(files)
    assert (removed.remove, removed.diff) == (["/etc/key.pem"], [])


# what was edited


def test_a_tree_as_it_was_written_is_not_edited(tree: Tree, files: list[File]) -> None:
    assert tree.edited() == []


def test_a_tree_that_was_never_written_is_not_edited(tree: Tree) -> None:
    assert tree.edited() == []


@pytest.mark.parametrize(
    ("drift", "words"),
    [
        (lambda path: path.write_text("by hand"), "was edited"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "was edited"),
        (lambda path: path.unlink(), "was removed"),
        (lambda path: path.chmod(0o666), "has another owner or mode than {owner}:{group} 0644"),
        (
            lambda path: path.rename(path.with_name("moved")) and path.symlink_to("moved"),
            "has another owner or mode than {owner}:{group} 0644",
        ),
    ],
    ids=["content", "not UTF-8", "removed", "mode", "a symlink to the same content"],
)
def test_an_edited_file_is_reported_and_not_changed(
    tree: Tree, files: list[File], me: dict[str, str], drift: Callable[[Path], object], words: str, snapshot
) -> None:
    drift(tree.target("/etc/a.conf"))
    before = snapshot(tree.root), snapshot(tree.state)
    assert tree.edited() == [f"/etc/a.conf {words.format(**me)}"]
    assert (snapshot(tree.root), snapshot(tree.state)) == before


def test_all_edited_files_are_reported(tree: Tree, files: list[File]) -> None:
    for file in files:
        tree.target(file.path).unlink()
    assert tree.edited() == [f"{file.path} was removed" for file in files]


def test_a_foreign_file_is_no_edit(tree: Tree, files: list[File]) -> None:
    tree.target("/etc/foreign.conf").write_text("mine")
    assert tree.edited() == []
