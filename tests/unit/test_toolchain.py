"""A compiler is there for a build, and the host is left as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet import builds, toolchain
from ansible.module_utils.flaskfleet.builds import Recipe, build
from ansible.module_utils.flaskfleet.sandbox import Sandbox
from ansible.module_utils.flaskfleet.toolchain import BuildFailed, clean_up, gcc_of
from builders import AUTO, DEPENDS, LTO_MISMATCH, Host, Python, make_host, script

WITH_HEADERS = replace(AUTO, packages=("gcc", "python3-dev"))
BEFORE = {"libc6": "auto"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return make_host(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where wheels are to be."""
    return tmp_path / "wheels"


@pytest.fixture
def python(tmp_path: Path) -> Python:
    return Python(tmp_path / "python")


@pytest.mark.parametrize(
    ("compiler", "expected"),
    [("GCC 11.3.0", "gcc-11"), ("GCC 4.8.5 20150623 (Red Hat)", "gcc-4"), ("Clang 14.0.6", "")],
)
def test_the_compiler_that_has_built_an_interpreter(tmp_path: Path, compiler: str, expected: str) -> None:
    assert gcc_of(script(tmp_path / "python3", f"echo '{compiler}'")) == expected


def during(host: Host, python: Python, folder: Path, *meanwhile: Callable[[], None], **changed: Any) -> dict[str, str]:
    """Build with a compiler; the packages that were installed during the build. ``meanwhile`` is called at its end."""
    seen: list[dict[str, str]] = []
    wheel = builds._run_pip_wheel

    def watch(*arguments: Any) -> str:
        said = wheel(*arguments)
        seen.append(host["installed"])
        for happens in meanwhile:
            happens()
        return said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builds, "_run_pip_wheel", watch)
        build(replace(WITH_HEADERS, **changed), python.path, folder)
    return seen[-1]


def test_a_compiler_is_there_for_the_build_alone(host: Host, python: Python, folder: Path) -> None:
    there = during(host, python, folder)
    assert there.keys() == {"libc6", "gcc", "gcc-12", "cpp-12", "libc6-dev", "python3-dev"}
    assert (host["installed"], host.noted.exists()) == (BEFORE, False)


def test_a_compiler_is_removed_after_a_failed_build(host: Host, python: Python, folder: Path) -> None:
    python.fails_with("no")
    with pytest.raises(BuildFailed):
        build(WITH_HEADERS, python.path, folder)
    assert (len(host.asked("install")), host["installed"]) == (1, BEFORE)


def test_only_what_was_missing_is_installed_and_removed_again(host: Host, python: Python, folder: Path) -> None:
    host.install(libc6_dev="auto", gcc_12="manual", cpp_12="auto")
    before = host["installed"]
    assert during(host, python, folder).keys() - before.keys() == {"gcc", "python3-dev"}
    assert host["installed"] == before


def test_if_nothing_is_missing_nothing_is_installed_or_removed(host: Host, python: Python, folder: Path) -> None:
    host.install(gcc="manual", gcc_12="auto", cpp_12="auto", libc6_dev="auto", python3_dev="manual")
    during(host, python, folder)
    assert host["calls"] == []


def test_a_package_that_another_one_provides_is_no_failure(host: Host, python: Python, folder: Path) -> None:
    host.write(provides={"libc-dev": "libc6-dev"})
    host.install(gcc="manual", libc6_dev="manual")
    before = host["installed"]
    during(host, python, folder, packages=("libc-dev",))
    assert host["installed"] == before


def test_a_removed_package_with_its_settings_left_is_missing(host: Host, python: Python, folder: Path) -> None:
    """The fake distribution has such a vim."""
    during(host, python, folder, packages=("vim",))
    assert host.asked("install") == ["vim gcc"]


def test_requirements_with_wheels_need_no_compiler(host: Host, python: Python, folder: Path) -> None:
    build(Recipe("flask", packages=("gcc",)), python.path, folder)
    assert host["calls"] == []


def test_headers_are_there_for_the_build_alone(host: Host, python: Python, folder: Path) -> None:
    host.write(depends={**DEPENDS, "libpq-dev": ["libpq5"]})
    there = during(host, python, folder, gcc="", build_packages=("libpq-dev",))
    assert {"libpq-dev", "libpq5", "gcc", "python3-dev"} <= there.keys()
    assert host["installed"] == BEFORE


def test_a_second_compiler_is_installed_beside_the_first_and_both_go(host: Host, python: Python, folder: Path) -> None:
    python.fails_with(LTO_MISMATCH, LTO_MISMATCH)
    assert {"gcc", "gcc-11", "cpp-11"} <= during(host, python, folder).keys()
    assert host["installed"] == BEFORE


def test_upgrades_that_came_along_are_not_removed(host: Host, python: Python, folder: Path) -> None:
    host.write(upgrades=["libc6"])
    during(host, python, folder)
    assert host["installed"] == BEFORE


def test_kept_packages_are_removed_by_the_next_build_that_keeps_nothing(
    host: Host, python: Python, folder: Path
) -> None:
    there = during(host, python, folder, keep_toolchain=True)
    assert host["installed"].keys() == there.keys()
    during(host, python, folder)
    assert host["installed"] == BEFORE


def test_kept_packages_and_those_in_use_are_not_cleaned_up(host: Host, python: Python, folder: Path) -> None:
    there = during(host, python, folder, clean_up, keep_toolchain=True)
    clean_up()
    assert host["installed"].keys() == there.keys()


def test_a_build_succeeds_even_if_the_compiler_cannot_be_removed(
    host: Host, python: Python, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another apt holds the lock, for one; the next run cleans up."""
    run = toolchain._run

    def fails_to_purge(argv: Sequence[str]) -> str:
        if "purge" in argv and "--simulate" not in argv:
            raise BuildFailed("E: Could not get lock")
        return run(argv)

    monkeypatch.setattr(toolchain, "_run", fails_to_purge)
    assert build(WITH_HEADERS, python.path, folder).wheels
    monkeypatch.setattr(toolchain, "_run", run)
    clean_up()
    assert (host["installed"], host.noted.exists()) == (BEFORE, False)


def test_packages_that_others_need_by_then_stay(host: Host, python: Python, folder: Path) -> None:
    during(host, python, folder, lambda: host.install(make="auto", build_essential="manual"))
    assert {"build-essential", "gcc", "gcc-12"} <= host["installed"].keys()
    assert not host.noted.exists()


def test_packages_that_a_user_has_installed_meanwhile_stay_with_their_dependencies(
    host: Host, python: Python, folder: Path
) -> None:
    during(host, python, folder, lambda: host.install(gcc="manual"))
    assert {"gcc", "gcc-12", "cpp-12", "libc6-dev"} <= host["installed"].keys()


def test_packages_that_a_user_has_installed_meanwhile_stay(host: Host, python: Python, folder: Path) -> None:
    during(host, python, folder, lambda: host.install(cpp_12="manual", libc6_dev="manual"))
    assert host["installed"] == {**BEFORE, "cpp-12": "manual", "libc6-dev": "manual"}


class Killed(BaseException):
    """The end of a process, which runs nothing any more."""


def kill(at: str, python: Python, folder: Path, recipe: Recipe = WITH_HEADERS) -> None:
    """Build, and be killed right after a program was run whose command line is like this."""

    def until(run: Callable[..., str]) -> Callable[..., str]:
        def killed(*arguments: Any) -> str:
            said = run(*arguments)
            if re.search(at, " ".join(map(str, next(words for words in arguments if isinstance(words, list))))):
                raise Killed
            return said

        return killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(toolchain, "_run", until(toolchain._run))
        patch.setattr(Sandbox, "run", until(Sandbox.run))
        patch.setattr(toolchain, "_remove_packages", lambda: None)
        build(recipe, python.path, folder)


def test_a_build_that_was_killed_is_cleaned_up_by_the_next(host: Host, python: Python, folder: Path) -> None:
    kill("pip wheel", python, folder)
    assert "gcc-12" in host["installed"]
    build(Recipe("flask"), python.path, folder)
    assert (host["installed"], host.noted.exists()) == (BEFORE, False)


def test_a_build_that_was_killed_is_cleaned_up_without_another(host: Host, python: Python, folder: Path) -> None:
    kill("pip wheel", python, folder)
    assert "gcc-12" in host["installed"]
    for _ in range(2):
        clean_up()
        assert (host["installed"], host.noted.exists()) == (BEFORE, False)


def test_a_build_that_was_killed_before_it_installed_anything_leaves_nothing_to_remove(
    host: Host, python: Python, folder: Path
) -> None:
    kill("--simulate install", python, folder)
    build(Recipe("flask"), python.path, folder)
    assert host["installed"] == BEFORE


def test_a_build_that_was_killed_while_it_installed_leaves_nothing_of_a_second_one(
    host: Host, python: Python, folder: Path
) -> None:
    kill("^apt-get (?!.*--simulate).* install ", python, folder)
    during(host, python, folder)
    assert host["installed"] == BEFORE


@pytest.mark.parametrize("fails", ["gone", "fails"], ids=["a name", "a mirror"])
def test_lists_that_are_old_are_updated(host: Host, python: Python, folder: Path, fails: str) -> None:
    host.write(**({"gone": ["gcc"]} if fails == "gone" else {"fails": 1}))
    during(host, python, folder)
    assert [call.split()[-1] for call in host["calls"] if call.endswith(" update")] == ["update"]
    assert host["installed"] == BEFORE


def test_lists_that_are_fresh_are_left_alone(host: Host, python: Python, folder: Path) -> None:
    during(host, python, folder)
    assert not [call for call in host["calls"] if call.endswith(" update")]


def test_another_run_of_apt_is_waited_for(host: Host, python: Python, folder: Path) -> None:
    host.write(gone=["gcc"], locked=2)
    during(host, python, folder)
    assert host["locked"] == 0
    assert [call.split()[-1] for call in host["calls"] if call.endswith(" update")] == ["update"] * 3


def test_another_run_of_apt_that_does_not_end_is_reported(
    host: Host, python: Python, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write(locked=99)
    monkeypatch.setattr(toolchain, "APT_LOCK_SECONDS", 0)
    with pytest.raises(BuildFailed, match="It is held by process 1"):
        build(replace(AUTO, gcc="9"), python.path, folder)


def test_a_compiler_that_the_distribution_lacks_is_reported(host: Host, python: Python, folder: Path) -> None:
    host.write(fails=99)
    with pytest.raises(BuildFailed, match=r"(?s)tried uwsgi==2.0.31 by gcc-9, \d+ s:.*Unable to locate package"):
        build(replace(AUTO, gcc="9"), python.path, folder)
    assert (python.calls(), host["installed"]) == ([], BEFORE)
