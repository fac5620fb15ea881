"""Archives are unpacked completely and only into their folder, or refused with a message."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from interruption import interruptions
from origins import https_server, names, own_cache
from plugin_utils import archives, sources
from plugin_utils.sources import SourceError, fetch, fetched


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_cache(tmp_path, monkeypatch)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from https_server(tmp_path, monkeypatch)


def make_tar(path: Path, members: dict[str, bytes | str | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    """Write a tar: of bytes a file, of text a link to it."""
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.name = name
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            elif isinstance(content, bytes):
                entry.size, entry.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def make_zip(path: Path, members: dict[str, bytes], mode: int = 0o644) -> Path:
    with zipfile.ZipFile(path, "w") as container:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o755 if name.endswith(".sh") else mode) << 16
            container.writestr(entry, content)
    return path


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo()
    entry.type, entry.linkname = kind, target
    return entry


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def at(path: Path, **more: str) -> dict[str, Any]:
    return {"archive": {"path": str(path), "url": None, "sha256": None, **more}}


FILES = {"blog-1.2/app.py": b"1", "blog-1.2/run.sh": b"2", "blog-1.2/pkg/x": b"3"}


@pytest.fixture(params=["a filter", "no filter"])
def extraction(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12 has Python 3.11.2, whose tarfile has no filters."""
    if request.param == "no filter":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("extraction")
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
def test_the_only_folder_at_the_top_of_an_archive_is_dropped(tmp_path: Path, name: str) -> None:
    kind = name.rpartition(".")[2]
    path = tmp_path / name
    make_zip(path, FILES) if kind == "zip" else make_tar(path, dict(FILES), "w:" if kind == "tar" else f"w:{kind}")
    found = fetch(at(path))
    assert found.record == {"archive": str(path), "sha256": sha256(path)}
    assert names(found.folder) == ["app.py", "pkg/x", "run.sh"]
    assert [(found.folder / name).stat().st_mode & stat.S_IXUSR != 0 for name in ("app.py", "run.sh")] == [False, True]
    assert fetched(at(path)) == found


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"a/x": b"", "b/x": b""}, ["a/x", "b/x"]),
        ({"a/x": b"", "y": b""}, ["a/x", "y"]),
        ({"app.py": b""}, ["app.py"]),
        ({"a/b/x": b""}, ["b/x"]),
        ({"./a/x": b"", "./a/y": "x"}, ["x", "y"]),
    ],
)
def test_one_folder_at_the_top_is_left_away(tmp_path: Path, members: dict[str, Any], expected: list[str]) -> None:
    assert names(fetch(at(make_tar(tmp_path / "a.tgz", members))).folder) == expected


def test_a_link_at_the_top_is_no_folder(tmp_path: Path) -> None:
    assert os.readlink(fetch(at(make_tar(tmp_path / "a.tgz", {"a": "."}))).folder / "a") == "."


def test_links_of_both_kinds_that_stay_within_are_kept(tmp_path: Path) -> None:
    members = {"a/x": b"1", "a/d/up": "../x", "a/hard": special(tarfile.LNKTYPE, "a/x")}
    folder = fetch(at(make_tar(tmp_path / "a.tgz", members))).folder
    assert os.readlink(folder / "d/up") == "../x"
    assert (folder / "hard").read_bytes() == b"1"


@pytest.mark.usefixtures("extraction")
@pytest.mark.parametrize(
    "members",
    [
        {"../evil": b""},
        {"a/../../evil": b""},
        {"/evil": b""},
        {"a/link": "../../evil"},
        {"a/link": "/evil"},
        {"a/link": ".", "a/link/evil": b""},
        {"a/d/x": b"", "a/link": "d", "a/link/evil": b""},
        {"a/x": b"", "a/link": "x", "./a/link": b"evil"},
        {"a/hard": special(tarfile.LNKTYPE, "../evil")},
        {"a/hard": special(tarfile.LNKTYPE, "/etc/passwd")},
        {"a/link": "x", "a/hard": special(tarfile.LNKTYPE, "a/link")},
        {"a/pipe": special(tarfile.FIFOTYPE)},
        {"a/device": special(tarfile.CHRTYPE)},
    ],
    ids=lambda members: " ".join(members),
)
def test_a_tar_that_would_write_elsewhere_is_refused(tmp_path: Path, cache: Path, members: dict[str, Any]) -> None:
    path = make_tar(tmp_path / "a.tgz", {"a/x": b"", **members})
    with pytest.raises(SourceError, match=f"^'{path}' has a member .* (leads out of it|unsafe to unpack); remove it"):
        fetch(at(path))
    assert not list(tmp_path.rglob("evil"))
    assert [path.name for path in (cache / "sources/archive").iterdir()] == ["lock"]


@pytest.mark.parametrize(("name", "mode"), [("../evil", 0), ("/evil", 0), ("a/../../evil", 0), ("link", stat.S_IFLNK)])
def test_a_zip_that_would_write_elsewhere_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    path = make_zip(tmp_path / "a.zip", {name: b"/etc/passwd"}, mode)
    with pytest.raises(SourceError, match=f"^'{path}' has a (member|link) '{name}'"):
        fetch(at(path))
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b no gzip", b"PK\x03\x04 no zip"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(SourceError, match=f"^'{tmp_path}/a.tgz' can't be unpacked: .*; use a .tar"):
        fetch(at(tmp_path / "a.tgz"))


def test_half_an_archive_is_refused(tmp_path: Path, cache: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", {"a/x": os.urandom(100_000)})
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(SourceError, match="can't be unpacked"):
        fetch(at(path))
    assert [path.name for path in (cache / "sources/archive").iterdir()] == ["lock"]


def test_a_changed_archive_is_another_source(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", {"a/x": b"1"})
    first = fetch(at(path))
    make_tar(path, {"a/x": b"2"})
    assert fetched(at(path)) == first
    assert (fetch(at(path)).folder / "x").read_bytes() == b"2"


def test_an_archive_that_was_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"^'{tmp_path}/a.tgz' was not fetched"):
        fetched(at(tmp_path / "a.tgz"))


def test_a_wrong_hash_is_reported_with_the_expected_one(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", {"a/x": b"1"})
    with pytest.raises(SourceError, match=f"^'{path}' has the sha256 {sha256(path)}, not {'0' * 64}; if it was meant"):
        fetch(at(path, sha256="0" * 64))
    assert fetch(at(path, sha256=sha256(path))).folder


@pytest.mark.parametrize("path", ["a.tgz", "/nonexistent.tgz", "/etc"])
def test_an_archive_that_is_not_there(path: str) -> None:
    with pytest.raises(SourceError, match=f"^'{path}' there is no such file on the controller"):
        fetch(at(Path(path)))


@pytest.mark.parametrize(
    "archive",
    [
        {},
        {"url": "https://h/a"},
        {"url": "https://h/a", "path": "/a", "sha256": "0" * 64},
        {"url": "https://h/a", "sha256": "../../x"},
        {"path": "/a", "sha256": "0" * 63},
    ],
)
def test_an_archive_is_a_path_or_an_url_with_a_hash(archive: dict[str, str]) -> None:
    with pytest.raises(SourceError, match="give either a path, or a url with its sha256"):
        fetch({"archive": archive})


@pytest.mark.parametrize("step", ["download", "unpack"])
def test_an_archive_is_downloaded_and_unpacked_once(
    tmp_path: Path, web: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = make_tar(tmp_path / "www" / "a.tgz", dict(FILES))
    source = {"archive": {"url": f"{web}/a.tgz", "sha256": sha256(path)}}
    first = fetch(source)
    assert first.record == {"archive": f"{web}/a.tgz", "sha256": sha256(path)}
    assert names(first.folder) == ["app.py", "pkg/x", "run.sh"]

    def fail(*_: object, **__: object) -> None:
        raise AssertionError(step)

    monkeypatch.setattr(sources, step, fail)
    assert (fetch(source), fetched(source)) == (first, first)


def test_addresses_that_differ_in_their_query_are_two(tmp_path: Path, web: str) -> None:
    found = []
    for number in range(2):
        path = make_tar(tmp_path / "www" / "a.tgz", {"x": b"%d" % number})
        source = {"archive": {"url": f"{web}/a.tgz?id={number}", "sha256": sha256(path)}}
        found.append((source, fetch(source)))
    assert [fetched(source) for source, _ in found] == [result for _, result in found]


def test_a_server_that_calls_an_archive_an_encoding(tmp_path: Path, web: str) -> None:
    """The hash is that of the downloaded bytes."""
    path = make_tar(tmp_path / "www" / "encoded.tgz", dict(FILES))
    assert fetch({"archive": {"url": f"{web}/encoded.tgz", "sha256": sha256(path)}}).folder


def test_a_download_is_verified_before_it_is_unpacked(
    tmp_path: Path, web: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_tar(tmp_path / "www" / "a.tgz", dict(FILES))
    monkeypatch.setattr(sources, "unpack", None)
    with pytest.raises(SourceError, match=f"^'{web}/a.tgz' has the sha256 {sha256(path)}, not {'0' * 64}"):
        fetch({"archive": {"url": f"{web}/a.tgz", "sha256": "0" * 64}})
    assert [path.name for path in (cache / "sources/archive").iterdir()] == ["lock"]


def test_a_password_of_a_download_is_used_and_not_kept(tmp_path: Path, web: str, cache: Path) -> None:
    path = make_tar(tmp_path / "www" / "private" / "a.tgz", dict(FILES))
    source = {"archive": {"url": f"{web}/private/a.tgz?sign=s1gn".replace("//", "//me:t0ken@"), "sha256": sha256(path)}}
    found = fetch(source)
    assert found.record["archive"] == f"{web}/private/a.tgz"
    assert fetched(source) == found
    assert not [
        path for path in cache.rglob("*") if path.is_file() and {b"t0ken", b"s1gn"} & {*path.read_bytes().split(b'"')}
    ]


@pytest.mark.parametrize("path", ["private/a.tgz", "missing.tgz"])
def test_the_message_of_a_failed_download_has_no_password(web: str, path: str) -> None:
    url = f"{web}/{path}?sign=s1gn".replace("//", "//me:wr0ng@")
    with pytest.raises(SourceError, match=f"^'{web}/{path}' can't be downloaded: .*40[14].*; check the url") as raised:
        fetch({"archive": {"url": url, "sha256": "0" * 64}})
    assert not [word for word in ("wr0ng", "s1gn") if word in str(raised.value)]


def test_a_server_with_an_untrusted_certificate_is_refused(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SourceError, match=r"can't be downloaded: .*certificate"):
        fetch({"archive": {"url": f"{web}/a.tgz", "sha256": "0" * 64}})


def test_a_download_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return b"x"

    monkeypatch.setattr(archives, "open_url", lambda *_, **__: Endless())
    monkeypatch.setattr(archives, "TIME_LIMIT_SECONDS", 0.1)
    with pytest.raises(SourceError, match=r"it takes longer than 0\.1 seconds"):
        fetch({"archive": {"url": "https://h/a", "sha256": "0" * 64}})


def test_an_interrupted_unpacking_leaves_no_partial_folder(tmp_path: Path, cache: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", dict(FILES))
    for number in interruptions(lambda _: fetch(at(path))):
        for folder in cache.glob(f"sources/archive/{'?' * 64}"):
            assert names(folder) == ["app.py", "pkg/x", "run.sh"], f"interrupted before step {number}"


def test_the_newest_old_archives_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(sources, "KEPT_ARCHIVES", 2)
    for number in range(4):
        found = fetch(at(make_tar(tmp_path / "a.tgz", {"x": b"%d" % number})))
        os.utime(found.folder, (number, number))
    fetch(at(make_tar(tmp_path / "a.tgz", {"x": b"new"})))
    kept = [(folder / "x").read_text() for folder in cache.glob(f"sources/archive/{'?' * 64}")]
    assert sorted(kept) == ["3", "new"]
