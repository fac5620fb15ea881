"""The files of a source that are part of a release, and the exclusion by name or pattern."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from examples import FILES, make_source, write
from plugin_utils.release_contents import ENVIRONMENTS, VERSION_CONTROL_AND_CACHES, contents
from plugin_utils.sources import SourceError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


def test_the_files_and_links_of_a_source(source: Path) -> None:
    assert [str(path.relative_to(source)) for path in contents(source).files] == [
        "app.py", "link", "manage", "pkg/__init__.py", "pkg/data.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        *(f"{folder}/x" for folder in sorted(VERSION_CONTROL_AND_CACHES | ENVIRONMENTS)),
        "pkg/__pycache__/x",
        "pkg/app.pyc",
    ],
)
def test_caches_environments_and_version_control_are_left_out(source: Path, name: str) -> None:
    before = contents(source).files
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).touch()
    assert contents(source).files == before


def test_an_absolute_link_is_refused_by_name(source: Path) -> None:
    (source / "escape").symlink_to(source / "app.py")
    with pytest.raises(SourceError, match=f"^{source}/escape: the link is absolute"):
        contents(source)


def test_a_hidden_file_is_part_of_it(source: Path) -> None:
    (source / ".flaskenv").touch()
    assert source / ".flaskenv" in contents(source).files


@pytest.mark.parametrize("target", ["../outside", "pkg/../../outside", "../source-2/app.py"])
def test_a_link_that_leads_out_is_refused_by_name(source: Path, target: str) -> None:
    (source / "escape").symlink_to(target)
    with pytest.raises(SourceError, match=f"^{source}/escape: the link leads out of the source; copy what"):
        contents(source)


@pytest.mark.parametrize("target", ["pkg", "missing", "pkg/../app.py"])
def test_a_link_that_stays_within_is_part_of_it(source: Path, target: str) -> None:
    (source / "inside").symlink_to(target)
    assert source / "inside" in contents(source).files


def test_a_fifo_is_refused_by_name(source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(SourceError, match=f"^{source}/pipe: neither a file nor a link; remove it"):
        contents(source)


def test_a_link_to_itself_is_part_of_it(source: Path) -> None:
    (source / "circle").symlink_to("circle")
    assert source / "circle" in contents(source).files


@pytest.fixture
def pages(source: Path) -> Path:
    """A source whose pages load files that npm has installed below the static folder."""
    for name in ("static/app.js", "static/node_modules/bootstrap/b.js", "node_modules/vite/v.js", "docs/a.md", "a.log"):
        write(source, name, name)
    return source


def names(source: Path, *arguments: Any) -> list[str]:
    """The paths of a release's files, without those of every source here."""
    found = (str(path.relative_to(source)) for path in contents(source, *arguments).files)
    return [name for name in found if name not in {*FILES, "link"}]


def test_folders_of_pages_named_like_environments_are_included(pages: Path) -> None:
    assert names(pages, {}, ["static"]) == [
        "a.log", "docs/a.md", "static/app.js", "static/node_modules/bootstrap/b.js",
    ]  # fmt: skip
    assert contents(pages, {}, ["static"]).left_out == ["node_modules/"]


def test_a_static_folder_below_an_excluded_folder_is_included(pages: Path) -> None:
    write(pages, "node_modules/.bin/vite", "")
    assert names(pages, {}, ["node_modules/vite"])[-2:] == ["node_modules/vite/v.js", "static/app.js"]
    assert contents(pages, {}, ["node_modules/vite"]).left_out == ["node_modules/", "static/node_modules/"]


def test_a_static_folder_behind_a_link_is_included(pages: Path, tmp_path: Path) -> None:
    (pages / "assets").symlink_to("static")
    (tmp_path / "alias").symlink_to("source")
    assert "static/node_modules/bootstrap/b.js" in names(tmp_path / "alias", {}, ["assets"])


def test_excluded_paths_are_returned_except_caches(pages: Path) -> None:
    for name in (".git/config", "pkg/__pycache__/a.pyc", "venv/pyvenv.cfg", "static/.git/config"):
        write(pages, name, "")
    assert contents(pages, {"exclude": ["*.log"]}, ["static"]).left_out == [
        "a.log", "node_modules/", "static/.git/", "venv/",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        ([], ["a.log", "docs/a.md", "static/app.js"]),
        (["*.log", "/docs/"], ["static/app.js"]),
        (["*.js", "!static/app.js"], ["a.log", "docs/a.md", "static/app.js"]),
        (["a.md"], ["a.log", "static/app.js"]),
        (["docs/b"], ["a.log", "docs/a.md", "static/app.js"]),
        (["!/node_modules/"], ["a.log", "docs/a.md", "node_modules/vite/v.js", "static/app.js"]),
    ],
)
def test_exclude_has_gitignores_patterns(pages: Path, exclude: list[str], expected: list[str]) -> None:
    assert names(pages, {"exclude": exclude}) == expected


def test_gitignore_files_count_if_the_option_is_set(pages: Path) -> None:
    write(pages, ".gitignore", "*.log\n*.js\n")
    write(pages, "static/.gitignore", "!app.js\n")
    assert names(pages) == [".gitignore", "a.log", "docs/a.md", "static/.gitignore", "static/app.js"]
    assert names(pages, {"gitignore": True}) == [".gitignore", "docs/a.md", "static/.gitignore", "static/app.js"]
    assert names(pages, {"gitignore": True, "exclude": ["!*.log", "docs"]}) == [
        ".gitignore", "a.log", "static/.gitignore", "static/app.js",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [b"x\xe9.txt", b"x\xe9/x", b"link"])
def test_a_name_that_is_not_text_is_refused_by_name(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    if name == b"link":
        path.symlink_to(os.fsdecode(b"x\xe9"))
    else:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with pytest.raises(SourceError, match=r"/(x\\xe9|link).*: the name is not UTF-8; rename it") as raised:
        contents(tmp_path)
    str(raised.value).encode()
    assert contents(tmp_path, {"exclude": ["x*", "link"]}).files == []
    contents(tmp_path, {"exclude": ["*"]}).left_out[0].encode()
