"""The module source_build: an app's commands on a copy of its source, in a sandbox, and a tar of what came of it."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet.environments import Environment
from ansible.module_utils.flaskfleet.sandbox import Sandbox
from ansible.module_utils.flaskfleet.wheels import receive
from ansible.module_utils.testing import patch_module_args
from ansible.modules import source_build
from sandboxes import stay_who_we_are

Execute = Callable[..., dict[str, Any]]


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Which packages were there for the build, and after it an empty list; the host is a temporary one."""
    stay_who_we_are(monkeypatch, tmp_path / "sandboxes")
    (tmp_path / "sandboxes").mkdir()
    added: list[list[str]] = []

    @contextmanager
    def toolchain(keep: bool) -> Iterator[Callable[[Sequence[str]], None]]:
        yield lambda names: added.append(list(names))
        if not keep:
            added.append([])

    def install(box: Sandbox, environment: Environment) -> Path:
        bin_ = box.work / "venv/bin"
        bin_.mkdir(parents=True)
        (bin_ / "hello").write_text('#!/bin/sh\necho "hello, $WORLD"; echo "$1" >"$1"\n')
        (bin_ / "hello").chmod(0o755)
        return box.work / "venv"

    monkeypatch.setattr(source_build, "toolchain", toolchain)
    monkeypatch.setattr(source_build, "install", install)
    monkeypatch.setattr(source_build, "receive", lambda archive: receive(archive, tmp_path / "pool"))
    monkeypatch.setattr(os, "nice", lambda _: 0)
    return added


@pytest.fixture
def module(packages: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Execute:
    """A function that runs the module with some commands, and returns its result."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "app.py").write_text("app = None\n")
    with tarfile.open(tmp_path / "source.tar.gz", "w:gz") as tar:
        tar.add(source, "src")
        tar.add(source, "static/static")
    with tarfile.open(tmp_path / "wheels.tar", "w"):
        pass

    def execute(*commands: str) -> dict[str, Any]:
        given = {
            "commands": list(commands), "source": str(tmp_path / "source.tar.gz"), "python": "/usr/bin/python3",
            "platform": "p/1", "wheels": [], "wheels_archive": str(tmp_path / "wheels.tar"),
            "variables": {"WORLD": "world"}, "packages": ["npm"], "archive": str(tmp_path / "built.tar"),
        }  # fmt: skip
        with patch_module_args(given), pytest.raises(SystemExit):
            source_build.main()
        return json.loads(capsys.readouterr().out)

    return execute


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


def test_commands_run_in_the_source_with_the_environments_programs_first(
    module: Execute, packages: list[list[str]], tmp_path: Path
) -> None:
    result = module("hello 'a file'", "cp app.py copy.py")
    assert result["said"] == ["$ hello 'a file'", "hello, world", "$ cp app.py copy.py"]
    app = b"app = None\n"
    assert members(tmp_path / "built.tar") == {"./app.py": app, "./copy.py": app, "./a file": b"a file\n"}
    assert packages == [["npm"], []]


@pytest.mark.parametrize(
    ("command", "words"), [("sh -c 'echo broken; exit 3'", "broken"), ("no-such-command", "no-such-command")]
)
def test_a_failed_command_is_reported_with_its_output_and_makes_nothing(
    module: Execute, packages: list[list[str]], tmp_path: Path, command: str, words: str
) -> None:
    result = module(command, "hello never")
    assert result["failed"]
    assert words in result["msg"]
    assert "never" not in result["msg"]
    assert not (tmp_path / "built.tar").exists()


@pytest.mark.parametrize(
    ("made", "kind"), [("ln -s /etc/shadow odd", tarfile.SYMTYPE), ("mkfifo odd", tarfile.FIFOTYPE)]
)
def test_root_reads_no_file_of_the_build(module: Execute, tmp_path: Path, made: str, kind: bytes) -> None:
    """It is packed by the sandbox's user, as it is; the controller refuses to unpack what is odd."""
    assert not module(made).get("failed")
    with tarfile.open(tmp_path / "built.tar") as tar:
        assert tar.getmember("./odd").type == kind
