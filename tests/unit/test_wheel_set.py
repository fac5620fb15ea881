"""The module wheel_set: what a host builds becomes a tar for the controller."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet.builds import Attempt, Built, Recipe
from ansible.module_utils.flaskfleet.toolchain import BuildFailed
from ansible.module_utils.flaskfleet.wheels import Wheel, lacking, receive, sha256_of
from ansible.module_utils.testing import patch_module_args
from ansible.modules import wheel_set

INDEX = "https://me:s3cret@pypi.example/simple"
RECIPE = {
    "requirements": "uwsgi==2.0.31 --hash=sha256:0\n", "tools": "", "gcc": "auto", "prebuilt": "",
    "packages": ["gcc", "libc6-dev"], "build_packages": ["libpq-dev"], "isolation": False, "keep_toolchain": False,
}  # fmt: skip


class Builds:
    """A build that writes down what it was asked for; of what it is to fail, or which wheels it is to make."""

    def __init__(self) -> None:
        self.asked: list[tuple[Recipe, str]] = []
        self.further: dict[str, str] | None = None
        self.names = ["uwsgi", "autopep8"]
        self.fails: Exception | None = None

    def __call__(self, recipe: Recipe, python: str, folder: Path, further: Path | None) -> Built:
        self.asked.append((recipe, python))
        self.further = {path.name: path.read_text() for path in further.iterdir()} if further else None
        if self.fails:
            raise self.fails
        folder.mkdir()
        for name in self.names:
            (folder / f"{name}-1.0-py3-none-any.whl").write_text(name)
        wheels = [Wheel(file=path.name, sha256=sha256_of(path)) for path in sorted(folder.iterdir())]
        return Built(wheels, ["uWSGI"], [Attempt("uwsgi==2.0.31", "gcc", seconds=12.3, error="")])


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builds:
    """The builds of a host, whose pool is a temporary one."""
    builds = Builds()
    monkeypatch.setattr(wheel_set, "build", builds)
    monkeypatch.setattr(wheel_set, "receive", lambda archive: receive(archive, tmp_path / "pool"))
    return builds


@pytest.fixture
def module(
    builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """A function that runs the module and returns its result."""
    monkeypatch.setattr(os, "nice", lambda _: 0)

    def execute(recipe: dict[str, Any] | None = None, **further: str) -> dict[str, Any]:
        given = {"python": "/usr/bin/python3", "index_url": INDEX, "archive": str(tmp_path / "built.tar"), **further}
        with patch_module_args({**given, "recipe": recipe or RECIPE}), pytest.raises(SystemExit):
            wheel_set.main()
        return json.loads(capsys.readouterr().out)

    return execute


def content(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]


def test_built_wheels_are_packed_by_hash(builds: Builds, module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    builds.names = ["uwsgi", "click"]
    result = module()
    assert content(tmp_path / "built.tar") == {
        f"{wheel['sha256']}/{wheel['file']}": wheel["file"].partition("-")[0] for wheel in result["wheels"]
    }
    assert [wheel["file"] for wheel in result["wheels"]] == ["click-1.0-py3-none-any.whl", "uwsgi-1.0-py3-none-any.whl"]
    assert (result["changed"], result["compiled"]) == (True, ["uWSGI"])


def test_the_host_has_what_it_has_built(module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """It need not be sent back."""
    assert lacking(module()["wheels"], tmp_path / "pool") == []


def test_a_recipe_is_built_with_the_interpreter(builds: Builds, module: Callable[..., dict[str, Any]]) -> None:
    module()
    ((recipe, python),) = builds.asked
    assert python == "/usr/bin/python3"
    assert recipe == Recipe(
        **{**RECIPE, "packages": ("gcc", "libc6-dev"), "build_packages": ("libpq-dev",), "index_url": INDEX}
    )


def test_a_recipe_needs_no_more_than_requirements(builds: Builds, module: Callable[..., dict[str, Any]]) -> None:
    module({"requirements": "flask"}, index_url="")
    assert builds.asked == [(Recipe("flask"), "/usr/bin/python3")]


def test_wheels_that_no_index_has_are_unpacked_for_the_build(
    builds: Builds, module: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "private.whl").write_text("private")
    with tarfile.open(tmp_path / "further.tar", "w") as tar:
        tar.add(tmp_path / "private.whl", "private.whl")
    module(further=str(tmp_path / "further.tar"))
    assert builds.further == {"private.whl": "private"}


def test_without_such_wheels_there_is_no_folder_of_them(builds: Builds, module: Callable[..., dict[str, Any]]) -> None:
    module()
    assert builds.further is None


@pytest.mark.parametrize("error", [BuildFailed("tried flask: nothing"), OSError(28, "No space left on device")])
def test_a_failed_build_is_the_failures_message(
    builds: Builds, module: Callable[..., dict[str, Any]], tmp_path: Path, error: Exception
) -> None:
    builds.fails = error
    result = module()
    assert (result["failed"], result["msg"]) == (True, str(error))
    assert not (tmp_path / "built.tar").exists()


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_login_user_can_fetch_the_tar(module: Callable[..., dict[str, Any]], tmp_path: Path, umask: int) -> None:
    os.umask(umask)
    module()
    assert (tmp_path / "built.tar").stat().st_mode & 0o777 == 0o644


def test_live_programs_have_priority_over_a_build(
    module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "nice", asked.append)
    module()
    assert asked == [10]


def test_a_password_of_the_index_is_not_in_the_result(builds: Builds, module: Callable[..., dict[str, Any]]) -> None:
    builds.fails = BuildFailed(f"no answer from {INDEX}")
    result = module()
    assert result["failed"]
    assert "s3cret" not in json.dumps(result)


def test_all_attempts_are_returned(module: Callable[..., dict[str, Any]]) -> None:
    assert module()["tried"] == ["uwsgi==2.0.31 by gcc, 12 s"]


def test_the_message_of_a_failure_is_complete(builds: Builds, module: Callable[..., dict[str, Any]]) -> None:
    builds.fails = BuildFailed("error: command 'gcc' failed; autoconf is missing")
    assert module()["msg"] == str(builds.fails)


def test_a_wheel_has_its_name(module: Callable[..., dict[str, Any]]) -> None:
    assert [wheel["file"] for wheel in module()["wheels"]] == [
        "autopep8-1.0-py3-none-any.whl",
        "uwsgi-1.0-py3-none-any.whl",
    ]
