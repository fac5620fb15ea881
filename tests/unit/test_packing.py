"""A release's id and archive depend on its inputs, on all of them and on nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from examples import FILES, make_source, write
from interruption import interruptions
from plugin_utils import packing
from plugin_utils import release_inputs as release_inputs_module
from plugin_utils.packing import digest, further_wheels, pack, packed, static_files
from plugin_utils.release_contents import contents
from plugin_utils.release_inputs import release_inputs, release_key
from plugin_utils.requirements import Required
from plugin_utils.sources import SourceError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the project's own cache out of the tests."""
    for module in (packing, release_inputs_module):
        monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def source_hash(source: Path) -> str:
    return packing.source_hash(source, contents(source).files)


def archive_of(source: Path, static: dict[str, str] | None = None, name: str = "a.tar.gz") -> Path:
    """The source's archive, beside it."""
    archive = source.parent / name
    pack(source, contents(source).files, static or {}, archive)
    return archive


def members(archive: Path) -> dict[str, str]:
    """The archive's members, each with what it is another name of, or nothing."""
    with tarfile.open(archive) as tar:
        return {entry.name: entry.linkname if entry.islnk() else "" for entry in tar}


def test_a_package_has_an_empty_source(tmp_path: Path) -> None:
    assert contents(None).files == []
    assert packing.source_hash(None, []) == packing.source_hash(tmp_path, [])
    pack(None, [], {"/static": "blog/static"}, tmp_path / "a.tar.gz")
    assert members(tmp_path / "a.tar.gz") == {}


# hash of a source


def test_the_same_source_elsewhere_has_the_same_hash(source: Path, tmp_path: Path) -> None:
    assert source_hash(make_source(tmp_path / "other", list(reversed(FILES)))) == source_hash(source)


def test_a_source_may_itself_be_behind_a_link(source: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to("source")
    assert source_hash(tmp_path / "alias") == source_hash(source)


def test_times_do_not_change_the_hash(source: Path) -> None:
    before = source_hash(source)
    os.utime(source / "app.py", (1, 1))
    assert source_hash(source) == before


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_the_umask_of_a_checkout_does_not_change_the_hash(source: Path, tmp_path: Path, umask: int) -> None:
    os.umask(umask)
    assert source_hash(make_source(tmp_path / "other")) == source_hash(source)


@pytest.mark.parametrize(
    "change",
    [
        lambda source: (source / "app.py").write_text("app = 1\n"),
        lambda source: (source / "app.py").chmod(0o755),
        lambda source: (source / "manage").chmod(0o644),
        lambda source: (source / "app.py").rename(source / "apx.py"),
        lambda source: (source / "pkg/data.txt").rename(source / "data.txt"),
        lambda source: (source / "new").touch(),
        lambda source: (source / "pkg/__init__.py").unlink(),
        lambda source: (source / "link").unlink() or (source / "link").symlink_to("app.py"),
        lambda source: (source / "link").unlink() or (source / "link").write_text("pkg/data.txt"),
    ],
    ids=["content", "+x", "-x", "renamed", "moved", "new", "gone", "link's target", "link to file"],
)
def test_a_change_changes_the_hash(source: Path, change: Callable[[Path], object]) -> None:
    before = source_hash(source)
    change(source)
    assert source_hash(source) != before


@pytest.mark.parametrize("separator", ["", "\0", "\n"])
def test_one_file_does_not_pass_for_two(tmp_path: Path, separator: str) -> None:
    (tmp_path / "a").write_text(f"1b\0file{separator}2")
    one = source_hash(tmp_path)
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    assert source_hash(tmp_path) != one


def test_the_hash_has_the_same_executable_bits_as_the_archive(source: Path) -> None:
    """For any user, because root may execute a file that any user may."""
    before = source_hash(source), archive_of(source).read_bytes()
    (source / "app.py").chmod(0o645)
    assert (source_hash(source), archive_of(source).read_bytes()) == before


# archive


STATIC = {"/static": "pkg/static", "/favicon.ico": "pkg/icons/a.ico"}


@pytest.fixture
def site(source: Path) -> Path:
    """A source with what nginx serves by itself."""
    write(source, "pkg/static/app.css", "a { color: red }\n" * 100)
    write(source, "pkg/static/deep/logo.png", "png" * 1000)
    write(source, "pkg/icons/a.ico", "ico" * 1000)
    return source


def test_two_packs_are_the_same_bytes(site: Path, tmp_path: Path) -> None:
    first = archive_of(site, STATIC).read_bytes()
    os.utime(site / "app.py", (1, 1))
    os.utime(site / "pkg/static/app.css", (1, 1))
    os.umask(0o077)
    other = make_source(tmp_path / "elsewhere" / "other", list(reversed(FILES)))
    for name in ("pkg/icons/a.ico", "pkg/static/deep/logo.png", "pkg/static/app.css"):
        write(other, name, (site / name).read_bytes())
    assert archive_of(other, dict(reversed(STATIC.items())), "b.tar.gz").read_bytes() == first


def test_an_unpacked_archive_is_the_source_and_what_is_served(site: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", archive_of(site, STATIC), "-C", tmp_path / "out"], check=True)
    assert source_hash(tmp_path / "out/src") == source_hash(site)
    served = tmp_path / "out/static/static/app.css"
    assert served.samefile(tmp_path / "out/src/pkg/static/app.css")
    assert gzip.decompress(served.with_name("app.css.gz").read_bytes()) == served.read_bytes()
    assert (tmp_path / "out/static/favicon.ico").samefile(tmp_path / "out/src/pkg/icons/a.ico")


def test_an_archive_has_no_time_of_packing(site: Path) -> None:
    """RFC 1952, 2.3.1: MTIME, and no FLG for a file's name. The same goes for what is compressed within."""
    archive = archive_of(site, STATIC)
    with tarfile.open(archive) as tar:
        inner = tar.extractfile("static/static/app.css.gz").read()
    for compressed in (archive.read_bytes(), inner):
        assert compressed[3:8] == bytes(5)


def test_an_archive_has_no_owner(site: Path) -> None:
    with tarfile.open(archive_of(site, STATIC)) as tar:
        assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in tar} == {(0, 0, "", "")}


def test_a_second_name_of_a_file_is_a_file(source: Path) -> None:
    (source / "second").hardlink_to(source / "app.py")
    with tarfile.open(archive_of(source)) as tar:
        assert tar.extractfile("src/second").read() == b"app = None\n"
        assert tar.getmember("src/second").isreg()


def test_times_in_an_archive_are_made_of_the_content(source: Path) -> None:
    """nginx makes ETags of them: the same for the same content, another for another of the same size."""
    for name in ("1", "2"):
        (source / name).write_text("same")
        os.utime(source / name, (int(name), int(name)))
    (source / "3").write_text("Same")
    with tarfile.open(archive_of(source)) as tar:
        times = [tar.getmember(f"src/{name}").mtime for name in "123"]
    assert times[0] == times[1] != times[2]


def test_times_in_an_archive_are_those_a_zip_can_hold_and_passed(source: Path) -> None:
    for number in range(500):
        write(source, f"many/{number}", str(number))
    with tarfile.open(archive_of(source)) as tar:
        times = [entry.mtime for entry in tar]
    assert 1980 <= time.localtime(min(times)).tm_year < 1985
    assert 2015 < time.localtime(max(times)).tm_year <= 2020


def test_times_of_another_kind_make_another_hash(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that has the old ones would stay as it is."""
    before = source_hash(source)
    monkeypatch.setattr(packing, "LATEST", packing.LATEST + 1)
    assert source_hash(source) != before


# what nginx serves


def test_a_served_file_is_a_hard_link(site: Path) -> None:
    found = members(archive_of(site, STATIC))
    assert {name: target for name, target in found.items() if not name.startswith("src/")} == {
        "static/favicon.ico": "src/pkg/icons/a.ico",
        "static/favicon.ico.gz": "",
        "static/static/app.css": "src/pkg/static/app.css",
        "static/static/app.css.gz": "",
        "static/static/deep/logo.png": "src/pkg/static/deep/logo.png",
    }


def test_all_names_of_a_served_file_have_its_time(site: Path) -> None:
    """A client that is given the one form may ask whether the other has changed since."""
    with tarfile.open(archive_of(site, STATIC)) as tar:
        names = ("src/pkg/static/app.css", "static/static/app.css", "static/static/app.css.gz")
        assert len({tar.getmember(name).mtime for name in names}) == 1


@pytest.mark.parametrize(
    ("name", "size", "is_compressed"),
    [
        *((f"x.{suffix}", 1024, True) for suffix in (
            "css", "js", "mjs", "svg", "json", "map", "xml", "txt", "html", "htm", "ico", "wasm", "ttf", "otf", "eot",
            "webmanifest", "CSS", "min.js",
        )),
        ("x.css", 1023, False),
        ("x.png", 1024, False),
        ("x.woff2", 1024, False),
        ("css", 1024, False),
        ("x.css.gz", 1024, False),
    ],
)  # fmt: skip
def test_large_text_files_are_compressed(source: Path, name: str, size: int, is_compressed: bool) -> None:
    write(source, f"assets/{name}", "x" * size)
    found = members(archive_of(source, {"/s": "assets"}))
    assert f"static/s/{name}" in found
    assert (f"static/s/{name}.gz" in found) is is_compressed


@pytest.mark.parametrize(("noise", "is_compressed"), [(1 << 13, True), (1 << 14, False)])
def test_a_file_that_hardly_shrinks_is_not_compressed(source: Path, noise: int, is_compressed: bool) -> None:
    """Of 16 KiB, the half or all is noise."""
    content = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(noise // 32))
    write(source, "assets/x.js", content.ljust(1 << 14, b"x"))
    assert ("static/s/x.js.gz" in members(archive_of(source, {"/s": "assets"}))) is is_compressed


def test_compression_must_save_a_tenth(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(source, "assets/x.js", "x" * 2000)
    for size, is_compressed in ((1800, True), (1801, False)):
        monkeypatch.setattr(packing, "_compressed", lambda path, size=size: b"x" * size)
        assert ("static/s/x.js.gz" in members(archive_of(source, {"/s": "assets"}))) is is_compressed


def test_a_compressed_file_of_the_source_is_taken_as_it_is(source: Path) -> None:
    write(source, "assets/x.js", "x" * 2000)
    write(source, "assets/x.js.gz", b"by a build")
    assert members(archive_of(source, {"/s": "assets"}))["static/s/x.js.gz"] == "src/assets/x.js.gz"


def test_a_folder_that_is_named_like_a_compressed_file_stays(source: Path) -> None:
    write(source, "assets/x.js", "x" * 2000)
    write(source, "assets/x.js.gz/y", "")
    assert "static/s/x.js.gz" not in members(archive_of(source, {"/s": "assets"}))


def test_a_file_that_is_served_twice_is_compressed_once(source: Path) -> None:
    write(source, "assets/x.js", "x" * 2000)
    found = members(archive_of(source, {"/a": "assets", "/b": "assets"}))
    assert (found["static/a/x.js.gz"], found["static/b/x.js.gz"]) == ("", "static/a/x.js.gz")


def test_links_below_a_static_folder_are_what_they_lead_to(source: Path) -> None:
    write(source, "shared/x.js", "x")
    write(source, "shared/deep/y.js", "y")
    (source / "assets").mkdir()
    (source / "assets/file.js").symlink_to("../shared/x.js")
    (source / "assets/twice.js").symlink_to("file.js")
    (source / "assets/folder").symlink_to("../shared")
    (source / "shared/app.py").symlink_to("../app.py")
    assert {name: str(path.relative_to(source)) for name, path in served(source).items()} == {
        "static/s/file.js": "shared/x.js",
        "static/s/folder/app.py": "app.py",
        "static/s/folder/deep/y.js": "shared/deep/y.js",
        "static/s/folder/x.js": "shared/x.js",
        "static/s/twice.js": "shared/x.js",
    }
    assert members(archive_of(source, {"/s": "assets"}))["static/s/folder/deep/y.js"] == "src/shared/deep/y.js"


def served(source: Path, static: dict[str, str] | None = None) -> dict[str, Path]:
    return static_files(source, contents(source).files, static or {"/s": "assets"})


@pytest.mark.parametrize("target", [".", "..", "../assets", "loop"])
def test_a_link_in_a_circle_ends(source: Path, target: str) -> None:
    write(source, "assets/x.js", "x")
    (source / "assets/loop").symlink_to(target)
    assert served(source)["static/s/x.js"] == source / "assets/x.js"
    assert all(name.count("loop") <= 1 for name in served(source))


def test_a_link_to_nothing_is_not_served(source: Path) -> None:
    """Editors leave such locks."""
    write(source, "assets/x.js", "x")
    (source / "assets/.#x.js").symlink_to("me@host.1")
    assert list(served(source)) == ["static/s/x.js"]


@pytest.mark.parametrize("target", ["../node_modules/x.js", "../lib/__pycache__/x.js"])
def test_a_link_to_an_excluded_file_is_refused_by_name(source: Path, target: str) -> None:
    write(source, "assets/y.js", "y")
    write(source / "assets", target, "x")
    (source / "assets/x.js").symlink_to(target)
    with pytest.raises(SourceError, match=f"^{source}/assets/x.js: the link leads to a file that is left out"):
        served(source)


def test_a_source_and_a_static_folder_may_be_behind_links(site: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to("source")
    (site / "assets").symlink_to("pkg/static")
    expected = {"static/s/app.css": "src/pkg/static/app.css", "static/s/deep/logo.png": "src/pkg/static/deep/logo.png"}
    assert members(archive_of(tmp_path / "alias", {"/s": "assets"})).items() >= expected.items()


def test_a_longer_prefix_wins_over_a_shorter_one(source: Path) -> None:
    write(source, "one/b/x", "1")
    write(source, "one/b/y", "1")
    write(source, "two/x", "2")
    for static in ({"/a": "one", "/a/b": "two"}, {"/a/b": "two", "/a": "one"}):
        found = served(source, static)
        assert (found["static/a/b/x"], found["static/a/b/y"]) == (source / "two/x", source / "one/b/y")


def test_a_file_and_a_folder_of_one_name_are_refused(source: Path) -> None:
    write(source, "one/b", "1")
    write(source, "two/x", "2")
    with pytest.raises(SourceError, match=f"{source}/one/b and {source}/two/x would be a file and a folder .*, /a/b;"):
        served(source, {"/a": "one", "/a/b": "two"})


# cache


def test_an_archive_is_packed_once(site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(site, contents(site).files, STATIC, "1a2b")
    assert archive == cache / "packed/1a2b.tar.gz"
    assert archive.read_bytes() == archive_of(site, STATIC).read_bytes()
    monkeypatch.setattr(packing, "pack", None)
    assert packed(site, contents(site).files, STATIC, "1a2b") == archive


def test_if_many_want_an_archive_at_once_one_packs(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = multiprocessing.get_context("fork")

    def slowly(*arguments: Any) -> None:
        with (tmp_path / "packs").open("a") as file:
            file.write("x")
        time.sleep(0.2)
        pack(*arguments)

    monkeypatch.setattr(packing, "pack", slowly)
    processes = [fork.Process(target=packed, args=(site, contents(site).files, STATIC, "1a2b")) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert (tmp_path / "packs").read_text() == "x"


def test_no_process_sees_a_partial_archive(site: Path, cache: Path) -> None:
    expected = archive_of(site, STATIC).read_bytes()
    files = contents(site).files
    for number in interruptions(lambda _: packed(site, files, STATIC, "1a2b")):
        kept = cache / "packed/1a2b.tar.gz"
        assert not kept.exists() or kept.read_bytes() == expected, f"interrupted before step {number}"


def test_a_source_that_cannot_be_packed_leaves_nothing(source: Path, cache: Path) -> None:
    with pytest.raises(FileNotFoundError):
        packed(source, [source / "gone"], {}, "1a2b")
    assert [path.name for path in (cache / "packed").iterdir()] == ["lock"]


@pytest.mark.parametrize(("age", "expected"), [(2 * 86400, 10), (3600, 12)])
def test_the_newest_old_archives_are_kept_and_those_a_run_may_use(source: Path, age: int, expected: int) -> None:
    for number in range(11):
        archive = packed(source, [], {}, f"{number}")
        os.utime(archive, (time.time() - age + number,) * 2)
    first = packed(source, [], {}, "1")  # used again
    last = packed(source, [], {}, "last")
    kept = list(archive.parent.glob("*.tar.gz"))
    assert len(kept) == expected
    assert {first, last} <= set(kept)


# wheels that no index has


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder of two wheels."""
    folder = tmp_path / "wheels"
    for name in ("b-1.0-py3-none-any.whl", "a-1.0-py3-none-any.whl", "README"):
        write(folder, name, name)
    return folder


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], []),
        (["a-1.0-py3-none-any.whl"], ["a"]),
        (["."], ["a", "b"]),
        (["b-1.0-py3-none-any.whl", "a-1.0-py3-none-any.whl"], ["b", "a"]),
    ],
    ids=["none", "a file", "a folder", "files"],
)
def test_further_wheels_are_files_and_all_wheels_of_folders(wheels: Path, given: list[str], found: list[str]) -> None:
    entry = {"wheels": [str(wheels / name) for name in given]}
    assert further_wheels(entry) == [wheels / f"{name}-1.0-py3-none-any.whl" for name in found]


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_a_wheel_that_is_not_there_is_named(wheels: Path, name: str) -> None:
    (wheels / "empty").mkdir()
    with pytest.raises(SourceError, match=f"^{wheels}/{name} is neither a wheel nor a folder of wheels"):
        further_wheels({"wheels": [str(wheels), str(wheels / name)]})


def test_a_further_wheel_that_changes_makes_another_release(identify: Callable[..., str], wheels: Path) -> None:
    without, before = identify(), identify(wheels=[str(wheels)])
    write(wheels, "a-1.0-py3-none-any.whl", "built again")
    assert len({without, before, identify(wheels=[str(wheels)])}) == 3


def test_the_path_of_a_further_wheel_makes_no_other_release(identify: Callable[..., str], wheels: Path) -> None:
    before = identify(wheels=[str(wheels)])
    moved = wheels.rename(wheels.with_name("moved"))
    assert identify(wheels=[str(moved)]) == before


# the key


def test_the_key_stays(cache: Path) -> None:
    assert release_key() == release_key() == (cache / "release.key").read_bytes()


def test_each_controller_has_its_own_key(cache: Path) -> None:
    first = release_key()
    (cache / "release.key").unlink()
    assert release_key() != first


def test_the_key_is_readable_for_its_owner_alone(cache: Path) -> None:
    os.umask(0)
    release_key()
    assert (cache / "release.key").stat().st_mode & 0o777 == 0o600


def test_no_process_sees_a_partial_key(cache: Path) -> None:
    for number in interruptions(lambda _: release_key()):
        assert not (cache / "release.key").exists() or len(release_key()) == 64, f"interrupted before step {number}"


def test_two_processes_that_make_the_key_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible forks for each host, and all of them want it at once."""
    meanwhile = []

    def token(size: int) -> str:
        monkeypatch.setattr(release_inputs_module.secrets, "token_hex", lambda size: "1" * 2 * size)
        meanwhile.append(release_key())
        return "2" * 2 * size

    monkeypatch.setattr(release_inputs_module.secrets, "token_hex", token)
    assert [release_key()] == meanwhile


# the inputs

FLASK = Required("flask\n")


@pytest.fixture
def entry() -> dict[str, Any]:
    return {
        "name": "blog",
        "source": {"path": "/home/me/blog"},
        "server_names": ["blog.example"],
        "nginx_directives": [],
        "processes": 4,
        "env": {"A": "a"},
        "secret_env": {"KEY": "s3cret"},
        "files": {"config.py": "A = 1"},
        "secret_files": {"secret.py": "KEY = 's3cret'"},
        "wheels": [],
    }


@pytest.fixture
def templates(tmp_path: Path) -> list[Path]:
    (tmp_path / "uwsgi.ini.j2").write_text("[uwsgi]\n")
    return [tmp_path / "uwsgi.ini.j2"]


@pytest.fixture
def identify(entry: dict[str, Any], templates: list[Path]) -> Callable[..., str]:
    """A function that returns the digest of the inputs with some of them changed."""

    def inputs(source: str = "1a", required: Required = FLASK, listen: int = 1024, **changed: Any) -> str:
        return digest(release_inputs({**entry, **changed}, source, required, templates, {"listen": listen}))

    return inputs


@pytest.mark.parametrize(
    "changed",
    [
        {"source": "2b"},
        {"required": FLASK._replace(lines="flask<4\n")},
        {"required": FLASK._replace(constraints="flask<4\n")},
        {"required": FLASK._replace(project="")},
        {"required": FLASK._replace(project="[mail]")},
        {"listen": 2048},
        {"processes": 8},
        {"env": {"A": "b"}},
        {"secret_env": {"KEY": "0ther"}},
        {"secret_env": {}},
        {"files": {"config.py": "A = 2"}},
        {"secret_files": {"secret.py": "KEY = '0ther'"}},
    ],
)
def test_an_input_that_changes_makes_another_release(identify: Callable[..., str], changed: dict[str, Any]) -> None:
    assert identify(**changed) != identify()


def rename(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


@pytest.mark.parametrize(
    "change",
    [
        lambda templates: templates[0].write_text("[uwsgi]\nmaster = true\n"),
        lambda templates: templates.append(rename(templates.pop(), "emperor.ini.j2")),
        lambda templates: templates.append(templates[0]),
    ],
    ids=["content", "name", "one more"],
)
def test_a_template_that_changes_makes_another_release(
    identify: Callable[..., str], templates: list[Path], change: Callable[[list[Path]], object]
) -> None:
    before = identify()
    change(templates)
    assert identify() != before


@pytest.mark.parametrize(
    "changed", [{"server_names": ["www.example"]}, {"nginx_directives": ["x 1"]}, {"name": "shop"}]
)
def test_options_that_steer_other_roles_make_no_other_release(
    identify: Callable[..., str], changed: dict[str, Any]
) -> None:
    assert identify(**changed) == identify()


def test_the_path_of_the_source_makes_no_other_release(entry: dict[str, Any], templates: list[Path]) -> None:
    moved = {**entry, "source": {"path": "/srv/checkouts/blog"}}
    assert release_inputs(moved, "1a", FLASK, templates, {}) == release_inputs(entry, "1a", FLASK, templates, {})


def test_the_order_of_keys_makes_no_other_release(identify: Callable[..., str]) -> None:
    assert identify(secret_env={"A": "1", "B": "2"}) == identify(secret_env={"B": "2", "A": "1"})


def test_secrets_are_not_in_the_inputs(entry: dict[str, Any], templates: list[Path]) -> None:
    shown = json.dumps(release_inputs(entry, "1a", FLASK, templates, {}))
    assert "s3cret" not in shown
    assert "KEY" not in shown


def test_secrets_cannot_be_guessed_from_the_inputs_without_the_key(identify: Callable[..., str], cache: Path) -> None:
    before = identify()
    (cache / "release.key").unlink()
    assert identify() != before


def test_inputs_are_what_a_record_can_hold(entry: dict[str, Any], templates: list[Path]) -> None:
    inputs = release_inputs(entry, "1a", FLASK, templates, {"listen": 1024})
    assert json.loads(json.dumps(inputs)) == inputs


# app_release


@pytest.fixture
def ship(tmp_path: Path) -> Callable[..., Path]:
    """A function that packs the records of a release with these inputs, as a host does."""

    def ship(inputs: dict[str, Any], python: str = "/usr/bin/python3") -> Path:
        records = {
            "release.json": {"release": "any", "inputs": inputs},
            "wheels.json": {"python": python, "sets": ["1a", "2b"]},
        }
        with tarfile.open(tmp_path / "shipped.tar.gz", "w:gz") as tar:
            for name, record in records.items():
                (tmp_path / name).write_text(json.dumps(record))
                tar.add(tmp_path / name, name)
        return tmp_path / "shipped.tar.gz"

    return ship


INPUTS = {"source": "1a", "entry": {"python": "/opt/python3.13/bin/python3"}}


@pytest.mark.parametrize("restart", ["", ".1"])
def test_a_shipped_release_runs_under_the_python_of_its_inputs(ship: Callable[..., Path], restart: str) -> None:
    release = digest(INPUTS)[:12] + restart
    made_of = release_inputs_module.shipped(ship(INPUTS, python="/srv/evil/python"), release)
    assert made_of == {"python": "/opt/python3.13/bin/python3", "sets": ["1a", "2b"]}


def test_a_shipped_release_of_other_inputs_is_refused(ship: Callable[..., Path]) -> None:
    altered = {**INPUTS, "entry": {"python": "/srv/evil/python"}}
    with pytest.raises(SourceError, match=f"is not what {digest(INPUTS)[:12]} was made from"):
        release_inputs_module.shipped(ship(altered), digest(INPUTS)[:12])
