"""Wheels are built by the first way that works, and the host is left as it was."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet import builds, sandbox, toolchain
from ansible.module_utils.flaskfleet.builds import Attempt, Recipe, attempts, build, explain
from ansible.module_utils.flaskfleet.files import lock
from ansible.module_utils.flaskfleet.toolchain import BuildFailed
from ansible.module_utils.flaskfleet.wheels import sha256_of
from builders import AUTO, LTO_MISMATCH, UWSGI, Host, Python, make_host

NO_COMPILER = "error: subprocess-exited-with-error\nerror: command 'gcc' failed: No such file or directory"
NO_HEADER = "Failed building wheel for psycopg2\nerror: libpq-fe.h: No such file or directory"
NOT_FOUND = "ERROR: No matching distribution found for flaskk"
PYUWSGI = "pyuwsgi==2.0.30 --hash=sha256:1"


# the ways to build


def ways(recipe: Recipe, *errors: str, built_by: str = "gcc-11") -> list[tuple[str, str, str]]:
    """Requirement, compiler and flags of each attempt. The first ones fail with these messages, the next one works."""
    tried: list[Attempt] = []
    for attempt in attempts(recipe, lambda: built_by, tried):
        tried.append(attempt)
        if len(tried) > len(errors):
            break
        attempt.error = errors[len(tried) - 1]
    return [(attempt.requirements.partition("==")[0], attempt.compiler, attempt.flags) for attempt in tried]


BY_GCC, WITHOUT_LTO, BY_ITS_OWN = ("uwsgi", "gcc", ""), ("uwsgi", "gcc", "-fno-lto"), ("uwsgi", "gcc-11", "")
PREBUILT = ("pyuwsgi", "", "")


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([], [BY_GCC]),
        ([LTO_MISMATCH], [BY_GCC, WITHOUT_LTO]),
        ([LTO_MISMATCH, LTO_MISMATCH], [BY_GCC, WITHOUT_LTO, BY_ITS_OWN]),
        ([LTO_MISMATCH, "another"], [BY_GCC, WITHOUT_LTO, BY_ITS_OWN]),
        ([NO_HEADER], [BY_GCC, PREBUILT]),
        ([LTO_MISMATCH, LTO_MISMATCH, LTO_MISMATCH], [BY_GCC, WITHOUT_LTO, BY_ITS_OWN, PREBUILT]),
    ],
    ids=[
        "works",
        "without LTO",
        "fat objects are none",
        "without LTO, another error",
        "another error",
        "nothing works",
    ],
)
def test_uwsgi_is_built_by_gcc_then_without_lto_then_by_pythons_gcc(
    errors: list[str], expected: list[tuple[str, str, str]]
) -> None:
    assert ways(replace(AUTO, prebuilt=PYUWSGI), *errors) == expected


@pytest.mark.parametrize("line", [LTO_MISMATCH.splitlines()[number] for number in (0, 3)])
def test_each_message_of_the_linker_is_recognized(line: str) -> None:
    """Of a long message there may be a part."""
    assert ways(AUTO, line) == [BY_GCC, WITHOUT_LTO]


def test_an_interpreter_of_another_compiler_than_gcc_has_none_to_install() -> None:
    errors = [LTO_MISMATCH] * 2
    assert ways(AUTO, *errors, built_by="") == [BY_GCC, WITHOUT_LTO]


@pytest.mark.parametrize(
    ("recipe", "errors", "expected"),
    [
        (replace(AUTO, gcc="11"), [LTO_MISMATCH], [BY_ITS_OWN]),
        (replace(AUTO, gcc="11", prebuilt=PYUWSGI), [LTO_MISMATCH], [BY_ITS_OWN, PREBUILT]),
        (AUTO, [NO_HEADER], [BY_GCC]),
        (AUTO, [LTO_MISMATCH] * 3, [BY_GCC, WITHOUT_LTO, BY_ITS_OWN]),
    ],
    ids=["pinned", "pinned, prebuilt allowed", "another error", "no prebuilt"],
)
def test_a_compiler_that_is_pinned_is_the_only_one_and_a_binary_has_to_be_allowed(
    recipe: Recipe, errors: list[str], expected: list[tuple[str, str, str]]
) -> None:
    assert ways(recipe, *errors) == expected


@pytest.mark.parametrize(
    ("errors", "expected"),
    [([], [""]), ([NO_COMPILER], ["", "gcc"]), ([NO_HEADER], ["", "gcc"]), ([NOT_FOUND], [""])],
    ids=["wheels alone", "no compiler", "no header", "no such thing"],
)
def test_a_compiler_is_installed_only_if_a_wheel_is_missing(errors: list[str], expected: list[str]) -> None:
    assert [compiler for _, compiler, _ in ways(Recipe("flask"), *errors)] == expected


def test_requirements_with_build_packages_are_compiled_at_once() -> None:
    recipe = Recipe("psycopg2", build_packages=("libpq-dev",))
    assert ways(recipe) == [("psycopg2", "gcc", "")]
    assert ways(recipe, NO_HEADER) == [("psycopg2", "gcc", "")]


@pytest.mark.parametrize(
    ("attempt", "variables"),
    [
        (Attempt(UWSGI), {}),
        (Attempt(UWSGI, "gcc"), {}),
        (Attempt(UWSGI, "gcc-11"), {"CC": "gcc-11"}),
        (Attempt(UWSGI, "gcc", "-fno-lto"), {"CFLAGS": "-fno-lto", "LDFLAGS": "-fno-lto"}),
    ],
    ids=str,
)
def test_a_compiler_and_its_flags_are_in_the_environment(attempt: Attempt, variables: dict[str, str]) -> None:
    assert attempt.variables == variables


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (Attempt(UWSGI, "gcc", "-fno-lto", 12.4), "uwsgi==2.0.31 by gcc -fno-lto, 12 s"),
        (Attempt("--no-binary :all:\nflask\n  # via me\n", seconds=0.6), "flask without a compiler, 1 s"),
        (Attempt("flask\nclick\n", "gcc"), "flask and 1 more by gcc, 0 s"),
        (Attempt("# flask\n"), "the project without a compiler, 0 s"),
        (Attempt("git+https://me:s3cret@host/x\n"), "git+https://host/x without a compiler, 0 s"),
    ],
)
def test_an_attempt_in_words(attempt: Attempt, words: str) -> None:
    assert str(attempt) == words


def test_an_explanation_has_each_attempt_with_its_last_words() -> None:
    many = "\n".join(f"line {number}" for number in range(100))
    lines = explain([Attempt(UWSGI, "gcc", error=many), Attempt(UWSGI, "gcc-11", error="\nno\n")]).splitlines()
    assert lines[0] == "tried uwsgi==2.0.31 by gcc, 0 s:"
    assert lines[1:-2] == [f"    line {number}" for number in range(100 - builds.LINES, 100)]
    assert lines[-2:] == ["tried uwsgi==2.0.31 by gcc-11, 0 s:", "    no"]


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        ("x.c:9:10: fatal error: libpq-fe.h: No such file or directory", "libpq-fe.h"),
        ("Error: pg_config executable not found.", "pg_config"),
    ],
)
def test_an_explanation_names_the_missing_header(error: str, missing: str) -> None:
    assert explain([Attempt("psycopg2", "gcc", error=error)]).splitlines()[-1] == (
        f"name the package that brings {missing} in build_packages of the app (apt-file search)"
    )


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return make_host(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder for wheels."""
    return tmp_path / "wheels"


@pytest.fixture
def python(tmp_path: Path) -> Python:
    return Python(tmp_path / "python")


# build


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """A function that packs a project with some files, as it comes with further wheels."""

    def make(*files: str) -> Path:
        for name in ("pyproject.toml", *files):
            (tmp_path / "source/src" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source/src" / name).write_text("")
        (tmp_path / "source/static").mkdir()
        (tmp_path / "given").mkdir()
        with tarfile.open(tmp_path / "given" / builds.PROJECT, "w:gz") as tar:
            for part in ("src", "static"):
                tar.add(tmp_path / "source" / part, part)
        return tmp_path / "given"

    return make


def test_a_project_is_built_alone(host: Host, python: Python, folder: Path, project: Callable[..., Path]) -> None:
    built = build(Recipe(""), python.path, folder, project("blog/__init__.py"))
    assert [wheel["file"] for wheel in built.wheels] == ["blog-1.0-py3-none-any.whl"]
    assert (built.compiled, str(built.tried[0])) == (["blog"], "the project without a compiler, 0 s")
    (call,) = python.calls()
    assert "--no-deps" in call
    assert "--require-hashes" not in call
    assert (python.folder / "project").read_text().split() == ["blog", "pyproject.toml"]


def test_a_project_is_built_with_what_it_needs(
    host: Host, python: Python, folder: Path, project: Callable[..., Path]
) -> None:
    built = build(Recipe("flask<4\n", dependencies="[mail]"), python.path, folder, project())
    assert len(built.wheels) == 3
    first, second = python.calls()
    assert "--no-deps" in first
    assert "--no-deps" not in second
    assert [word.rpartition("/")[2] for word in second if word.endswith("[mail]")] == [
        "blog-1.0-py3-none-any.whl[mail]"
    ]
    assert python.requirements() == ["flask<4\n"]


def test_a_projects_dynamic_dependencies_are_built(
    host: Host, python: Python, folder: Path, project: Callable[..., Path]
) -> None:
    build(Recipe("", dependencies=""), python.path, folder, project())
    _, second = python.calls()
    assert second[-1].endswith("/blog-1.0-py3-none-any.whl")
    assert "-r" not in second


@pytest.mark.parametrize("name", ["blog/fast.c", "blog/fast.pyx", "src/lib.rs", "fast.cpp"])
def test_a_project_with_an_extension_is_built_with_a_compiler(
    host: Host, python: Python, folder: Path, project: Callable[..., Path], name: str
) -> None:
    built = build(Recipe(""), python.path, folder, project(name))
    assert [attempt.compiler for attempt in built.tried] == ["", "gcc"]


def test_constraints_are_a_file_of_their_own(host: Host, python: Python, folder: Path) -> None:
    build(Recipe("flask\n", constraints="click<9\n"), python.path, folder)
    (call,) = python.calls()
    assert Path(call[call.index("-c") + 1]).name == "constraints.txt"
    assert python.constraints() == "click<9\n"


def test_all_wheels_are_returned_by_name_and_hash(host: Host, python: Python, folder: Path) -> None:
    built = build(Recipe("uwsgi\n"), python.path, folder)
    assert [wheel["file"] for wheel in built.wheels] == [
        "click-8-py3-none-any.whl",
        "uwsgi-2.0.31-cp311-cp311-linux_x86_64.whl",
    ]
    assert [wheel["sha256"] for wheel in built.wheels] == [sha256_of(folder / wheel["file"]) for wheel in built.wheels]
    assert built.compiled == []
    assert [str(attempt).rpartition(",")[0] for attempt in built.tried] == ["uwsgi without a compiler"]


def test_a_wheel_that_was_built_without_a_compiler_is_built_again_with_one(
    host: Host, python: Python, folder: Path
) -> None:
    """Otherwise an optional extension would be missing on each host."""
    python.builds_anyway()
    built = build(Recipe("markupsafe\n"), python.path, folder)
    assert [attempt.compiler for attempt in built.tried] == ["", "gcc"]
    assert "uWSGI, markupsafe was built without a compiler" in built.tried[0].error
    assert built.compiled == ["uWSGI", "markupsafe"]


def test_two_builds_on_a_host_wait_for_each_other(
    host: Host, python: Python, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "PATIENCE_SECONDS", 0.1)
    with lock(host.noted.with_suffix(".lock")), pytest.raises(BuildFailed, match=rf"process {os.getpid()} has been"):
        build(AUTO, python.path, folder)
    assert host["calls"] == []


def test_upgraded_packages_of_the_host_are_reported(host: Host, python: Python, folder: Path) -> None:
    host.write(upgrades=["libc6"])
    built = build(AUTO, python.path, folder)
    assert re.fullmatch(r"uwsgi==2\.0\.31 by gcc, \d+ s, upgraded libc6", str(built.tried[0]))


def test_variables_of_a_recipe_reach_pip(host: Host, python: Python, folder: Path) -> None:
    build(Recipe("uwsgi\n", variables={"UWSGI_PROFILE_OVERRIDE": "ssl=false"}), python.path, folder)
    assert python.variables()[-1]["UWSGI_PROFILE_OVERRIDE"] == "ssl=false"


def test_a_failed_attempt_leaves_nothing_for_the_next(host: Host, python: Python, folder: Path) -> None:
    python.fails_with(LTO_MISMATCH)
    built = build(AUTO, python.path, folder)
    assert {path.name for path in folder.iterdir()} == {wheel["file"] for wheel in built.wheels}
    assert "half.whl" not in {path.name for path in folder.iterdir()}
    assert [attempt.error.splitlines()[1:] for attempt in built.tried] == [LTO_MISMATCH.splitlines(), []]


def test_if_every_attempt_fails_nothing_is_left_and_all_are_reported(host: Host, python: Python, folder: Path) -> None:
    python.fails_with(LTO_MISMATCH, LTO_MISMATCH, "cannot link", "no such wheel")
    with pytest.raises(BuildFailed) as failed:
        build(replace(AUTO, prebuilt=PYUWSGI), python.path, folder)
    assert not folder.exists()
    assert re.findall(r"^tried (.*), \d+ s:$", str(failed.value), re.MULTILINE) == [
        "uwsgi==2.0.31 by gcc", "uwsgi==2.0.31 by gcc -fno-lto", "uwsgi==2.0.31 by gcc-11",
        "pyuwsgi==2.0.30 without a compiler",
    ]  # fmt: skip
    assert {"    /usr/bin/ld: error: lto-wrapper failed", "    cannot link", "    no such wheel"} <= set(
        str(failed.value).splitlines()
    )


def test_each_attempt_has_its_compiler_and_flags(host: Host, python: Python, folder: Path) -> None:
    python.fails_with(LTO_MISMATCH, LTO_MISMATCH)
    build(AUTO, python.path, folder)
    names = ("CC", "CFLAGS", "LDFLAGS")
    assert [{name: seen[name] for name in names if name in seen} for seen in python.variables()] == [
        {},
        {"CFLAGS": "-fno-lto", "LDFLAGS": "-fno-lto"},
        {"CC": "gcc-11"},
    ]
    assert python.requirements() == [UWSGI] * 3


@pytest.mark.parametrize(("requirements", "checked"), [("flask==3\n", False), ("flask==3 --hash=sha256:0\n", True)])
def test_hashes_are_required_of_a_lock_file_that_has_them(
    host: Host, python: Python, folder: Path, requirements: str, checked: bool
) -> None:
    build(Recipe(requirements), python.path, folder)
    (call,) = python.calls()
    assert ("--require-hashes" in call) == checked


@pytest.mark.parametrize("given", [True, False])
def test_wheels_that_no_index_has_are_found(
    host: Host, python: Python, folder: Path, tmp_path: Path, given: bool
) -> None:
    (tmp_path / "further").mkdir()
    build(Recipe("flask"), python.path, folder, tmp_path / "further" if given else None)
    (call,) = python.calls()
    assert [call[at + 1] for at, word in enumerate(call) if word == "--find-links"] == (
        [f"{sandbox.SANDBOXES}/build/given/further"] if given else []
    )


def test_tools_are_installed_by_hash(host: Host, python: Python, folder: Path) -> None:
    build(replace(AUTO, tools="wheel==1 --hash=sha256:2"), python.path, folder)
    (install,) = python.calls("install")
    assert "--require-hashes" in install
    assert python.requirements() == ["wheel==1 --hash=sha256:2", UWSGI]


@pytest.mark.parametrize("isolation", [True, False])
def test_a_recipe_decides_about_build_isolation(host: Host, python: Python, folder: Path, isolation: bool) -> None:
    build(replace(AUTO, tools="wheel==1", isolation=isolation), python.path, folder)
    (call,) = python.calls()
    assert ("--no-build-isolation" in call) == (not isolation)


def test_the_login_of_an_index_is_in_a_file_of_the_sandbox_and_nowhere_else(
    host: Host, python: Python, folder: Path
) -> None:
    build(replace(AUTO, tools="wheel==1", index_url="https://me:s3cr%40t@pypi.example/simple"), python.path, folder)
    assert {variables["PIP_INDEX_URL"] for variables in python.variables()} == {"https://pypi.example/simple"}
    assert (python.folder / "login").read_text() == "machine pypi.example login me password s3cr@t\n"
    assert "s3cr" not in json.dumps([python.variables(), python.calls("install"), python.calls(), host["calls"]])


@pytest.mark.parametrize("url", ["https://pypi.example/simple", ""])
def test_an_index_is_in_the_environment(
    host: Host, python: Python, folder: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """And no user's settings count."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://elsewhere.example")
    build(replace(AUTO, tools="wheel==1", index_url=url), python.path, folder)
    seen = python.variables()
    assert [variables.get("PIP_INDEX_URL") for variables in seen] == [url or None] * 2


def test_pip_has_the_hosts_proxy_and_trusts_what_the_host_trusts(
    host: Host, python: Python, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.crt").touch()
    monkeypatch.setattr(sandbox, "CA_BUNDLE", tmp_path / "ca.crt")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    build(Recipe("flask"), python.path, folder)
    (seen,) = python.variables()
    assert (seen["https_proxy"], seen["NO_PROXY"]) == ("http://proxy:3128", "localhost")
    assert (seen["PIP_CERT"], "PYTHONPATH" in seen) == (f"{tmp_path}/ca.crt", False)


@pytest.mark.parametrize("mode", [None, 0o644], ids=["missing", "no program"])
def test_an_interpreter_that_cannot_be_run_is_named(host: Host, folder: Path, tmp_path: Path, mode: int | None) -> None:
    if mode:
        (tmp_path / "python3.99").touch(mode)
    with pytest.raises(BuildFailed, match=f"failed to execute {tmp_path}/python3.99: "):
        build(Recipe("flask"), str(tmp_path / "python3.99"), folder)
