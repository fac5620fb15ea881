"""A wheel set is built once per platform, by the first host, and is complete and unaltered or not there."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet.builds import Recipe
from examples import PLATFORM
from interruption import interruptions
from plugin_utils import wheelhouse
from plugin_utils.wheelhouse import AlreadyFailed, Wanted, Wheel, WheelFailed, known, obtain, pack

UWSGI = Wanted("uwsgi==2.0.31\n", tools="wheel==1\n", gcc="auto", prebuilt="pyuwsgi==2.0.30\n")
OTHER_PLATFORM = "debian-13-x86_64-cp313/5e6f7a8b"
OTHER_PYTHON = PLATFORM.replace("1a2b3c4d", "5e6f7a8b")


def wheel_of(name: str) -> Wheel:
    return Wheel(file=f"{name}-1.0-py3-none-any.whl", sha256=hashlib.sha256(name.encode()).hexdigest())


WHEEL_OF = wheel_of


class Builder:
    """A host that builds wheels, whose content is their name, and writes down how often."""

    def __init__(self, *names: str, altered: str = "", fails: str = "") -> None:
        self.names = names
        self.altered = altered
        self.fails = fails
        self.builds = 0

    def __call__(self, archive: Path) -> dict[str, Any]:
        self.builds += 1
        if self.fails:
            raise wheelhouse.BuildFailed(self.fails)
        with tarfile.open(archive, "w") as tar:
            for name in self.names:
                content = f"{name}{', altered' if name == self.altered else ''}".encode()
                member = tarfile.TarInfo(f"{wheel_of(name)['sha256']}/{wheel_of(name)['file']}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return {
            "changed": True,
            "wheels": [wheel_of(name) for name in self.names],
            "compiled": [name.replace("_", ".").upper() for name in self.names if name.startswith("u")],
            "tried": ["uwsgi==2.0.31 by gcc, 12 s"],
        }


@pytest.fixture
def house(tmp_path: Path) -> Path:
    return tmp_path / "house"


@pytest.fixture
def stocked(house: Path) -> Path:
    """A wheelhouse with one set."""
    obtain(UWSGI, PLATFORM, "app1", Builder("uwsgi", "click"), house)
    return house


def has(house: Path) -> dict[str, str]:
    """All wheels of a wheelhouse with their content, by platform and hash."""
    return {str(path.relative_to(house)): path.read_text() for path in house.glob("*/*/*.whl")}


def expected(*names: str, platform: str = PLATFORM) -> dict[str, str]:
    folder = platform.partition("/")[0]
    return {f"{folder}/{wheel_of(name)['sha256']}/{wheel_of(name)['file']}": name for name in names}


# what names a set


@pytest.mark.parametrize(
    "changed",
    [
        {"requirements": "uwsgi==2.0.30\n"},
        {"constraints": "six<2\n"},
        {"tools": ""},
        {"isolation": False},
        {"gcc": "11"},
        {"prebuilt": ""},
        {"build_packages": ("libpq-dev",)},
    ],
    ids=str,
)
def test_each_input_makes_another_set(changed: dict[str, Any]) -> None:
    assert replace(UWSGI, **changed).key != UWSGI.key


@pytest.mark.parametrize(
    "changed",
    [{"packages": ("gcc", "make")}, {"index_url": "https://pypi.example/simple"}, {"keep_toolchain": True}],
    ids=str,
)
def test_how_a_set_is_built_makes_no_other_set(changed: dict[str, Any]) -> None:
    assert replace(UWSGI, **changed).key == UWSGI.key


def test_a_further_wheel_is_known_by_its_content(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.whl", "b.whl", "copy.whl")]
    for path, content in zip(paths, ("one", "two", "one"), strict=True):
        path.write_text(content)
    one, two, copy = paths
    assert replace(UWSGI, further=(one, two)).key == replace(UWSGI, further=(two, copy)).key
    assert len({replace(UWSGI, further=further).key for further in ((), (one,), (two,), (one, two))}) == 4


def test_a_project_is_known_by_its_content_and_by_what_is_built_of_it(tmp_path: Path) -> None:
    for name, content in {"a": "one", "b": "two", "copy": "one"}.items():
        (tmp_path / name).write_text(content)
    one, two, copy = (replace(UWSGI, project=tmp_path / name) for name in ("a", "b", "copy"))
    assert one.key == copy.key
    assert len({UWSGI.key, one.key, two.key, *(replace(one, dependencies=extras).key for extras in ("", "[a]"))}) == 5


def test_a_key_is_twelve_hex_digits() -> None:
    assert len(UWSGI.key) == 12
    assert int(UWSGI.key, 16)


def test_a_recipe_is_what_a_host_builds_by() -> None:
    """The index is apart from it: it may have a password."""
    wanted = replace(UWSGI, packages=("gcc",), index_url="https://me:s3cret@pypi.example/simple", keep_toolchain=True)
    assert wanted.recipe == {
        name: value for name, value in asdict(wanted).items() if name not in ("further", "project", "index_url")
    }
    assert asdict(Recipe(**wanted.recipe)) == {**wanted.recipe, "index_url": ""}


# obtaining


def test_a_set_is_built_once(house: Path) -> None:
    builder = Builder("uwsgi", "click")
    assert obtain(UWSGI, PLATFORM, "app1", builder, house) == ["uwsgi==2.0.31 by gcc, 12 s"]
    assert obtain(UWSGI, PLATFORM, "app2", builder, house) == []
    assert (builder.builds, has(house)) == (1, expected("uwsgi", "click"))


@pytest.mark.parametrize(
    ("wanted", "platform"),
    [(replace(UWSGI, gcc="11"), PLATFORM), (UWSGI, OTHER_PLATFORM), (UWSGI, OTHER_PYTHON)],
    ids=["another set", "another platform", "another interpreter"],
)
def test_another_set_is_built_separately(stocked: Path, wanted: Wanted, platform: str) -> None:
    builder = Builder("uwsgi")
    obtain(wanted, platform, "app1", builder, stocked)
    assert builder.builds == 1
    assert known(wanted, stocked)[platform] == [wheel_of("uwsgi")]


def test_sets_share_their_wheels(stocked: Path) -> None:
    (before,) = stocked.glob(f"*/{wheel_of('click')['sha256']}/*.whl")
    inode = before.stat().st_ino
    obtain(replace(UWSGI, gcc="11"), PLATFORM, "app1", Builder("click", "flask"), stocked)
    assert (before.stat().st_ino, has(stocked)) == (inode, expected("uwsgi", "click", "flask"))


def test_a_record_has_the_wheels_and_the_attempts(house: Path) -> None:
    obtain(UWSGI, PLATFORM, "app1", Builder("u_wsgi", "click"), house)
    record = json.loads((house / PLATFORM.split("/")[0] / f"1a2b3c4d-{UWSGI.key}.json").read_text())
    assert datetime.fromisoformat(record.pop("at")).tzinfo
    assert record == {
        "platform": PLATFORM,
        "requirements": "uwsgi==2.0.31\n",
        "wheels": [{**wheel_of("u_wsgi"), "compiled": True}, {**wheel_of("click"), "compiled": False}],
        "tried": ["uwsgi==2.0.31 by gcc, 12 s"],
        "host": "app1",
    }


LOCKED = f"""\
flask==3.1 \\
    --hash=sha256:{"0" * 64} \\
    --hash=sha256:{wheel_of("flask")["sha256"]}
    # via blog
u_wsgi[x]==2.0 --hash=sha256:{"2" * 64}
"""


def test_a_record_has_requirements_without_hashes(house: Path) -> None:
    obtain(Wanted(LOCKED), PLATFORM, "app1", Builder("flask"), house)
    (record,) = house.glob("*/*.json")
    assert json.loads(record.read_text())["requirements"] == "flask==3.1\n    # via blog\nu_wsgi[x]==2.0\n"


def test_a_record_has_no_password_of_an_index(house: Path) -> None:
    wanted = replace(UWSGI, index_url="https://me:s3cret@pypi.example/simple")
    obtain(wanted, PLATFORM, "app1", Builder("uwsgi"), house)
    assert not [path for path in house.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]


def test_sets_are_known_by_platform_and_interpreter(stocked: Path) -> None:
    obtain(UWSGI, OTHER_PYTHON, "app1", Builder("uwsgi"), stocked)
    obtain(UWSGI, OTHER_PLATFORM, "app2", Builder("click"), stocked)
    assert known(UWSGI, stocked) == {
        PLATFORM: [wheel_of("uwsgi"), wheel_of("click")],
        OTHER_PYTHON: [wheel_of("uwsgi")],
        OTHER_PLATFORM: [wheel_of("click")],
    }


@pytest.mark.parametrize("wanted", [UWSGI, replace(UWSGI, gcc="11")], ids=["an empty house", "another set"])
def test_a_set_that_was_not_built_is_unknown(house: Path, wanted: Wanted) -> None:
    if wanted != UWSGI:
        obtain(UWSGI, PLATFORM, "app1", Builder("uwsgi"), house)
    assert known(wanted, house) == {}


def test_if_many_want_a_set_at_once_one_builds(house: Path, tmp_path: Path) -> None:
    """The others find it built when it is their turn."""
    fork = multiprocessing.get_context("fork")
    together = fork.Barrier(8)

    def build(archive: Path) -> dict[str, Any]:
        with (tmp_path / "builds").open("a") as file:
            file.write("x")
        return Builder("uwsgi")(archive)

    def want(host: str) -> None:
        together.wait()
        obtain(UWSGI, PLATFORM, host, build, house)

    processes = [fork.Process(target=want, args=(f"app{number}",)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert ((tmp_path / "builds").read_text(), has(house)) == ("x", expected("uwsgi"))


def test_while_one_builds_another_waits(house: Path) -> None:
    fork = multiprocessing.get_context("fork")
    started, may_end = fork.Event(), fork.Event()

    def slowly(archive: Path) -> dict[str, Any]:
        started.set()
        may_end.wait()
        return Builder("uwsgi")(archive)

    def second(said: Any) -> None:
        said.put(obtain(UWSGI, PLATFORM, "app2", Builder(fails="it did not wait"), house))

    said = fork.Queue()
    first, waiting = (
        fork.Process(target=obtain, args=(UWSGI, PLATFORM, "app1", slowly, house)),
        fork.Process(target=second, args=(said,)),
    )
    first.start()
    started.wait()
    waiting.start()
    may_end.set()
    assert said.get(timeout=30) == []
    for process in (first, waiting):
        process.join()


# what fails


def test_a_build_that_fails_leaves_no_set(house: Path) -> None:
    with pytest.raises(wheelhouse.BuildFailed, match="no compiler"):
        obtain(UWSGI, PLATFORM, "app1", Builder("uwsgi", fails="no compiler"), house)
    assert (known(UWSGI, house), has(house)) == ({}, {})


@pytest.fixture
def failed(house: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheelhouse for which app1 has failed to build in this run."""
    monkeypatch.setattr(os, "getppid", lambda: 4711)
    with pytest.raises(wheelhouse.BuildFailed):
        obtain(UWSGI, PLATFORM, "app1", Builder(fails="no compiler\nno hope"), house)
    return house


def test_other_hosts_of_the_same_run_fail_without_building(failed: Path) -> None:
    builder = Builder("uwsgi")
    with pytest.raises(AlreadyFailed, match=r"^app1: no compiler\nno hope$"):
        obtain(UWSGI, PLATFORM, "app2", builder, failed)
    assert builder.builds == 0


def test_other_hosts_build_if_one_host_fails_for_its_own_reasons(house: Path) -> None:
    def unreachable(_: Path) -> dict[str, Any]:
        raise OSError("no route to host")

    with pytest.raises(OSError):
        obtain(UWSGI, PLATFORM, "app1", unreachable, house)
    obtain(UWSGI, PLATFORM, "app2", Builder("uwsgi"), house)
    assert known(UWSGI, house) == {PLATFORM: [wheel_of("uwsgi")]}


def test_runs_differ_by_their_start_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container each has the same process id."""

    def run_since(ticks: str) -> str:
        fields = " ".join(["S", *["0"] * 18, ticks, "0"])
        monkeypatch.setattr(Path, "read_text", lambda _: f"1 (a) name) {fields}")
        return wheelhouse.this_run()

    assert run_since("7") == run_since("7") != run_since("8")


def test_a_set_without_wheels_is_complete(house: Path) -> None:
    """All markers of its requirements may be of other platforms."""
    obtain(UWSGI, PLATFORM, "app1", Builder(), house)
    builder = Builder("uwsgi")
    obtain(UWSGI, PLATFORM, "app2", builder, house)
    assert (known(UWSGI, house), builder.builds) == ({PLATFORM: []}, 0)


def test_another_run_tries_again(failed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 4712)
    builder = Builder("uwsgi")
    obtain(UWSGI, PLATFORM, "app1", builder, failed)
    monkeypatch.setattr(os, "getppid", lambda: 4711)
    obtain(UWSGI, PLATFORM, "app2", builder, failed)
    assert (builder.builds, list(failed.glob("*/*.failed"))) == (1, [])


@pytest.mark.parametrize(
    ("wanted", "platform"),
    [(replace(UWSGI, gcc="11"), PLATFORM), (UWSGI, OTHER_PLATFORM), (UWSGI, OTHER_PYTHON)],
    ids=["another set", "another platform", "another interpreter"],
)
def test_another_set_of_the_same_run_is_tried(failed: Path, wanted: Wanted, platform: str) -> None:
    obtain(wanted, platform, "app2", Builder("uwsgi"), failed)
    assert known(wanted, failed) == {platform: [wheel_of("uwsgi")]}


def test_an_altered_wheel_is_refused(house: Path) -> None:
    with pytest.raises(WheelFailed, match=f"/{wheel_of('click')['file']} was altered"):
        obtain(UWSGI, PLATFORM, "app1", Builder("uwsgi", "click", altered="click"), house)
    assert (known(UWSGI, house), has(house)) == ({}, {})


def test_a_tar_that_lacks_a_wheel_is_refused(house: Path) -> None:
    def build(archive: Path) -> dict[str, Any]:
        Builder("uwsgi")(archive)
        return Builder("uwsgi", "click")(archive.with_name("another.tar"))

    with pytest.raises(WheelFailed, match=f"^app1 has not sent .*{wheel_of('click')['file']}"):
        obtain(UWSGI, PLATFORM, "app1", build, house)
    assert known(UWSGI, house) == {}


@pytest.mark.parametrize("names", [(), ("flask",), ("flask", "u_wsgi")], ids=str)
def test_listed_wheels_and_those_compiled_from_listed_projects_are_accepted(
    house: Path, names: tuple[str, ...]
) -> None:
    obtain(Wanted(LOCKED), PLATFORM, "app1", Builder(*names), house)
    assert known(Wanted(LOCKED), house) == {PLATFORM: list(map(wheel_of, names))}


@pytest.mark.parametrize(
    ("requirements", "name"),
    [
        (LOCKED, "click"),
        (LOCKED.replace(wheel_of("flask")["sha256"], "1" * 64), "flask"),
        (LOCKED, "unheard_of"),
    ],
    ids=["not listed", "another hash", "compiled, and not listed"],
)
def test_a_wheel_that_a_lock_file_does_not_list_is_refused(house: Path, requirements: str, name: str) -> None:
    """The builder checks hashes, too, but an attacker may control it."""
    words = f"^app1 has sent {wheel_of(name)['file']} with sha256 {wheel_of(name)['sha256']}, which the requirements"
    with pytest.raises(WheelFailed, match=words):
        obtain(Wanted(requirements), PLATFORM, "app1", Builder("u_wsgi", name), house)
    assert (known(Wanted(requirements), house), has(house)) == ({}, {})


def test_a_compiled_wheel_cannot_have_the_platform_of_an_index(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = "u_wsgi-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    monkeypatch.setitem(globals(), "wheel_of", lambda name: {**WHEEL_OF(name), "file": file})
    with pytest.raises(WheelFailed, match=f"^app1 has sent {file}"):
        obtain(Wanted(LOCKED), PLATFORM, "app1", Builder("u_wsgi"), house)


@pytest.mark.parametrize("hash", ["", f"--hash=sha512:{'1' * 128}"], ids=["no lock file", "longer hashes"])
def test_without_a_listed_sha256_the_builder_is_trusted(house: Path, hash: str) -> None:
    obtain(Wanted(f"click==8.1 {hash}\n"), PLATFORM, "app1", Builder("click"), house)
    assert has(house) == expected("click")


def test_a_wheel_of_the_controllers_needs_no_hash_in_a_lock_file(house: Path, tmp_path: Path) -> None:
    (tmp_path / "click.whl").write_text("click")
    obtain(Wanted(LOCKED, further=(tmp_path / "click.whl",)), PLATFORM, "app1", Builder("click"), house)
    assert has(house) == expected("click")


def test_an_interruption_leaves_no_set_and_the_next_run_builds_it(tmp_path: Path) -> None:
    """Or the whole of it."""
    houses: list[Path] = []

    def run(number: int) -> None:
        houses.append(tmp_path / f"house{number}")
        obtain(UWSGI, PLATFORM, "app1", Builder("uwsgi", "click"), houses[-1])

    for number in interruptions(run):
        house = houses[-1]
        complete = has(house) == expected("uwsgi", "click")
        assert known(UWSGI, house) == {} or complete, f"interrupted before step {number}"
        obtain(UWSGI, PLATFORM, "app2", Builder("uwsgi", "click"), house)
        assert has(house) == expected("uwsgi", "click"), f"interrupted before step {number}"
        assert list(known(UWSGI, house)) == [PLATFORM], f"interrupted before step {number}"


# packing for a host


@pytest.fixture
def packing(stocked: Path, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """A function that packs those of the house's wheels that have these names; what is in the tar."""

    def packed(*names: str, candidates: tuple[str, ...] = ("uwsgi", "click", "uwsgi")) -> dict[str, str]:
        hashes = [wheel_of(name)["sha256"] for name in names]
        pack(PLATFORM, map(wheel_of, candidates), hashes, tmp_path / "wheels.tar", stocked)
        with tarfile.open(tmp_path / "wheels.tar") as tar:
            return {member.name: (tar.extractfile(member) or io.BytesIO()).read().decode() for member in tar}

    return packed


@pytest.mark.parametrize("names", [(), ("click",), ("click", "uwsgi")])
def test_a_host_gets_what_it_lacks_once(packing: Callable[..., dict[str, str]], names: tuple[str, ...]) -> None:
    assert packing(*names) == {path.partition("/")[2]: content for path, content in expected(*names).items()}


def test_an_altered_file_is_named(stocked: Path, packing: Callable[..., dict[str, str]]) -> None:
    (path,) = stocked.glob(f"*/{wheel_of('click')['sha256']}/*.whl")
    path.write_text("altered")
    with pytest.raises(WheelFailed, match=f"^{path} was altered"):
        packing("click", "uwsgi")
    assert packing("uwsgi")


def test_a_missing_file_is_named_with_what_to_do(stocked: Path, packing: Callable[..., dict[str, str]]) -> None:
    (folder,) = stocked.glob(f"*/{wheel_of('click')['sha256']}")
    shutil.rmtree(folder)
    words = f"^{folder}/{wheel_of('click')['file']} is gone; run this again to have it built$"
    with pytest.raises(WheelFailed, match=words):
        packing("click")


@pytest.mark.parametrize("removed", ["", f"/{wheel_of('uwsgi')['sha256']}/{wheel_of('uwsgi')['file']}"])
def test_a_removed_set_is_built_again(stocked: Path, removed: str) -> None:
    path = Path(f"{stocked}/{PLATFORM.split('/')[0]}{removed}")
    path.unlink() if removed else shutil.rmtree(path)
    assert PLATFORM not in known(UWSGI, stocked)
    builder = Builder("uwsgi")
    obtain(UWSGI, PLATFORM, "app1", builder, stocked)
    assert builder.builds == 1
    assert known(UWSGI, stocked)[PLATFORM] == [wheel_of("uwsgi")]


@pytest.mark.parametrize(
    ("name", "project"),
    [
        ("uWSGI", "uwsgi"),
        ("Flask_SQLAlchemy-3.1.1-py3-none-any.whl", "flask-sqlalchemy"),
        ("zope.interface", "zope-interface"),
    ],
)
def test_a_project_has_one_name(name: str, project: str) -> None:
    assert wheelhouse._project_name(name) == project
