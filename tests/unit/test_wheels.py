"""Which wheels a host has, which ones an interpreter can use, and how they come: whole and unaltered, or not at all."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
import re
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet import wheels
from ansible.module_utils.flaskfleet.files import lock
from ansible.module_utils.flaskfleet.wheels import (
    KEPT_SECONDS,
    Wheel,
    WheelFailed,
    lacking,
    platform_of,
    prune,
    receive,
    sha256_of,
    verify,
)
from interruption import interruptions

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\nID_LIKE=x\n'
FOUND = {"tag": "cp311", "prefix": "/usr", "shared": True, "build": ["'--enable-shared'", "GCC 12.2.0", ""]}


# platforms


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """A function that makes a fake interpreter, with some of what it finds out about itself changed."""

    def make(**changed: Any) -> str:
        path = tmp_path / f"python{len(list(tmp_path.iterdir()))}"
        path.write_text(f"#!/bin/sh\ncat <<'EOF'\n{json.dumps({**FOUND, **changed})}\nEOF\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def os_release(tmp_path: Path) -> Callable[[str], Path]:
    """A function that makes a file like /etc/os-release."""

    def make(text: str) -> Path:
        path = tmp_path / f"os-release{len(list(tmp_path.iterdir()))}"
        path.write_text(text)
        return path

    return make


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (DEBIAN, "debian-12"),
        ("ID=ubuntu\nVERSION_ID=24.04\nVERSION_CODENAME=noble\n", "ubuntu-24.04"),
        ('VERSION_CODENAME=forky\nID="debian"', "debian-rolling"),
    ],
    ids=["quoted", "plain", "no version"],
)
def test_a_platform_is_the_system_the_machine_and_the_python(python, os_release, text: str, name: str) -> None:
    found = platform_of(python(), os_release(text))
    assert re.fullmatch(rf"{name}-{platform.machine()}-cp311/[0-9a-f]{{8}}", found)


def test_the_platform_of_this_interpreter(os_release) -> None:
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"debian-12-{platform.machine()}-{tag}{sys.abiflags}/" in platform_of(sys.executable, os_release(DEBIAN))


def test_the_same_interpreter_on_another_host_is_of_the_same_platform(python, os_release) -> None:
    assert platform_of(python(), os_release(DEBIAN)) == platform_of(python(), os_release(DEBIAN))


@pytest.mark.parametrize(
    "changed",
    [
        {"prefix": "/opt/python"},
        {"shared": False},
        {"build": ["'--with-lto'", "GCC 12.2.0", ""]},
        {"build": ["'--enable-shared'", "GCC 11.3.0", ""]},
    ],
    ids=["prefix", "shared", "options", "compiler"],
)
def test_the_python_that_uwsgi_is_linked_with_makes_another_platform(
    python, os_release, changed: dict[str, Any]
) -> None:
    one, other = (platform_of(path, os_release(DEBIAN)) for path in (python(), python(**changed)))
    assert one.partition("/")[0] == other.partition("/")[0]
    assert one != other


def probed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared: int, version: str) -> Any:
    """The output of the probe for an interpreter of this version and linkage."""
    with monkeypatch.context() as patch:
        values = {"Py_ENABLE_SHARED": shared, "CONFIG_ARGS": "''"}
        patch.setattr("sysconfig.get_config_var", values.get)
        patch.setattr(sys, "version", version)
        exec(wheels.PROBE, {})
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("shared", "same"), [(0, False), (1, True)], ids=["static", "shared"])
def test_two_builds_of_a_static_interpreter_are_two_platforms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared: int, same: bool
) -> None:
    one, other = (
        probed(monkeypatch, capsys, shared, f"3.11.2 (main, May  {day} 2026, 10:00:00) [GCC 12.2.0]") for day in (1, 2)
    )
    assert (one == other) == same


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "No such file or directory"),
        ("", "Permission denied"),
        ("#!/bin/sh\necho 'no module named sysconfig' >&2\nexit 1\n", "no module named sysconfig"),
    ],
    ids=["missing", "no program", "broken"],
)
def test_an_interpreter_that_cannot_be_run_is_named(tmp_path: Path, os_release, script: str | None, words: str) -> None:
    path = tmp_path / "python3.99"
    if script is not None:
        path.write_text(script)
        path.chmod(0o755 if script else 0o644)
    with pytest.raises(WheelFailed, match=f"^{path} can't be run: {words}; name another `python`$"):
        platform_of(str(path), os_release(DEBIAN))


# the pool


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return tmp_path / "pool"


def wheel_of(name: str) -> Wheel:
    return Wheel(file=f"{name}-1.0-py3-none-any.whl", sha256=hashlib.sha256(name.encode()).hexdigest())


@pytest.fixture
def tar_of(tmp_path: Path) -> Callable[..., Path]:
    """A function that packs wheels whose content is their name; some are altered."""

    def pack(*names: str, altered: str = "") -> Path:
        with tarfile.open(tmp_path / "wheels.tar", "w") as tar:
            for name in names:
                wheel = wheel_of(name)
                (tmp_path / wheel["file"]).write_text(f"{name}, altered" if name == altered else name)
                tar.add(tmp_path / wheel["file"], f"{wheel['sha256']}/{wheel['file']}")
        return tmp_path / "wheels.tar"

    return pack


def has(pool: Path) -> dict[str, str]:
    """All files of a pool with their content."""
    return {str(path.relative_to(pool)): path.read_text() for path in pool.rglob("*") if path.is_file()}


def expected(*names: str) -> dict[str, str]:
    return {f"{wheel_of(name)['sha256']}/{wheel_of(name)['file']}": name for name in names}


def test_the_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("flask")
    assert sha256_of(tmp_path / "file") == wheel_of("flask")["sha256"]


def test_received_wheels_are_not_lacking(pool: Path, tar_of) -> None:
    wanted = [wheel_of(name) for name in ("flask", "uwsgi", "flask")]
    assert lacking(wanted, pool) == sorted({wheel["sha256"] for wheel in wanted})
    receive(tar_of("flask"), pool)
    assert lacking(wanted, pool) == [wheel_of("uwsgi")["sha256"]]


def test_the_pool_has_only_the_received_wheels(pool: Path, tar_of) -> None:
    receive(tar_of("flask", "uwsgi"), pool)
    assert has(pool) == expected("flask", "uwsgi")
    assert len(list(pool.iterdir())) == 2


def test_only_root_reads_the_pool(pool: Path, tar_of) -> None:
    """Some wheels are private."""
    pool.mkdir(mode=0o755)
    receive(tar_of("flask"), pool)
    assert pool.stat().st_mode & 0o777 == 0o700


def test_a_received_wheel_survives_a_power_cut(pool: Path, tar_of, monkeypatch: pytest.MonkeyPatch) -> None:
    durable: list[Path] = []
    monkeypatch.setattr(wheels, "fsync_path", durable.append)
    receive(tar_of("flask"), pool)
    assert durable == [pool / wheel_of("flask")["sha256"], pool]


def test_an_existing_wheel_is_not_replaced(pool: Path, tar_of) -> None:
    """An environment may be made from it at this moment."""
    receive(tar_of("flask"), pool)
    (there,) = pool.glob("*/*.whl")
    before = there.stat().st_ino
    receive(tar_of("flask", "uwsgi"), pool)
    assert there.stat().st_ino == before
    assert has(pool) == expected("flask", "uwsgi")


def test_an_altered_wheel_is_refused_with_the_whole_tar(pool: Path, tar_of) -> None:
    with pytest.raises(WheelFailed, match=f"/{wheel_of('uwsgi')['file']} was altered"):
        receive(tar_of("flask", "uwsgi", altered="uwsgi"), pool)
    assert list(pool.iterdir()) == []


def test_an_older_python_receives_wheels_too(pool: Path, tar_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    receive(tar_of("flask"), pool)
    assert has(pool) == expected("flask")


def test_a_tar_that_was_cut_off_leaves_nothing(pool: Path, tar_of) -> None:
    archive = tar_of("flask", "uwsgi")
    archive.write_bytes(archive.read_bytes()[:1100])
    with pytest.raises(tarfile.TarError):
        receive(archive, pool)
    assert list(pool.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../out.whl", tarfile.REGTYPE),
        ("/tmp/out.whl", tarfile.REGTYPE),
        (f"{'a' * 64}/../../out.whl", tarfile.REGTYPE),
        (f"{'a' * 64}/out.pth", tarfile.REGTYPE),
        (f"{'a' * 64}/out.whl", tarfile.SYMTYPE),
        (f"{'a' * 64}/out.whl", tarfile.LNKTYPE),
        ("a" * 64, tarfile.DIRTYPE),
    ],
)
def test_a_tar_with_anything_but_wheels_is_refused(pool: Path, tmp_path: Path, name: str, kind: bytes) -> None:
    """A host has made it, and it is unpacked on the controller."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "wheels.tar", "w") as tar:
        tar.addfile(member)
    with pytest.raises(WheelFailed, match=f"has a member {re.escape(repr(name))}, which is no wheel"):
        receive(tmp_path / "wheels.tar", pool)
    assert list(tmp_path.rglob("out.*")) == []


def test_an_interruption_leaves_complete_wheels_and_the_next_run_receives_all(tmp_path: Path, tar_of) -> None:
    archive, wanted = tar_of("flask", "uwsgi"), expected("flask", "uwsgi")
    pools: list[Path] = []

    def run(number: int) -> None:
        pools.append(tmp_path / f"pool{number}")
        receive(archive, pools[-1])

    for number in interruptions(run):
        seen = {name: content for name, content in has(pools[-1]).items() if not name.startswith(".")}
        assert seen.items() <= wanted.items(), f"interrupted before step {number}"
        receive(archive, pools[-1])
        assert has(pools[-1]) == wanted, f"interrupted before step {number}"


def test_files_of_an_interrupted_run_are_not_used(pool: Path, tar_of) -> None:
    (pool / ".new/1a2b").mkdir(parents=True)
    (pool / ".new/1a2b/half.whl").touch()
    receive(tar_of("flask"), pool)
    assert has(pool) == expected("flask")


def test_a_wheel_is_verified_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "flask.whl"
    path.write_text("flask")
    verify(path, wheel_of("flask")["sha256"])
    other = wheel_of("uwsgi")["sha256"]
    with pytest.raises(
        WheelFailed, match=f"^{path} was altered: its sha256 is {wheel_of('flask')['sha256']}, not {other}"
    ):
        verify(path, other)


@pytest.mark.parametrize("age", [0, KEPT_SECONDS - 600, KEPT_SECONDS + 600])
@pytest.mark.parametrize("used", [True, False])
def test_a_wheel_in_use_or_younger_than_a_day_is_kept(pool: Path, tar_of, age: int, used: bool) -> None:
    receive(tar_of("flask"), pool)
    flask = wheel_of("flask")["sha256"]
    os.utime(pool / flask, (time.time() - age,) * 2)
    prune({flask} if used else {"another"}, pool)
    assert (pool / flask).exists() == (used or age < KEPT_SECONDS)


def test_a_wheel_that_a_run_has_used_is_kept_for_a_day(pool: Path, tar_of) -> None:
    receive(tar_of("flask", "uwsgi"), pool)
    for folder in pool.iterdir():
        os.utime(folder, (0, 0))
    assert lacking([wheel_of("flask")], pool) == []
    prune(set(), pool)
    assert has(pool) == expected("flask")


def test_waiting_too_long_for_another_process_is_an_error(pool: Path, tar_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "PATIENCE_SECONDS", 0.1)
    pool.parent.mkdir(parents=True, exist_ok=True)
    with lock(pool.with_name("wheels.lock")), pytest.raises(WheelFailed, match="run this again"):
        receive(tar_of("flask"), pool)
    assert has(pool) == {}


def test_pruning_without_a_pool_does_nothing(pool: Path) -> None:
    prune(set(), pool)
    assert not pool.exists()


def test_a_wheel_whose_removal_was_interrupted_can_come_again(pool: Path, tar_of) -> None:
    def age() -> None:
        receive(tar_of("flask"), pool)
        os.utime(pool / wheel_of("flask")["sha256"], (0, 0))

    age()
    for number in interruptions(lambda _: prune(set(), pool)):
        receive(tar_of("flask"), pool)
        assert lacking([wheel_of("flask")], pool) == [], f"interrupted before step {number}"
        age()


def test_wheels_may_come_for_two_apps_at_once(
    pool: Path, tar_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tar_of("flask").rename(tmp_path / "first.tar"), tar_of("uwsgi")
    fork = multiprocessing.get_context("fork")
    in_the_middle, done = fork.Event(), fork.Event()
    look = wheels.verify

    def pause(path: Path, sha256: str) -> None:
        in_the_middle.set()
        done.wait(0.5)  # for nothing where the other one waits for this one
        look(path, sha256)

    def other() -> None:
        in_the_middle.wait()
        monkeypatch.setattr(wheels, "verify", look)
        receive(second, pool)
        done.set()

    monkeypatch.setattr(wheels, "verify", pause)
    processes = [fork.Process(target=receive, args=(first, pool)), fork.Process(target=other)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert ([process.exitcode for process in processes], has(pool)) == ([0, 0], expected("flask", "uwsgi"))
