"""Wheels are built by the first way that works, and the host is left as it was."""

from __future__ import annotations

import json
import os
import re
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet import builds, sandbox
from ansible.module_utils.flaskfleet.builds import (
    Attempt,
    BuildFailed,
    Recipe,
    attempts,
    build,
    clean_up,
    explain,
    gcc_of,
)
from ansible.module_utils.flaskfleet.files import lock
from ansible.module_utils.flaskfleet.sandbox import Sandbox
from ansible.module_utils.flaskfleet.wheels import sha256_of

LTO_MISMATCH = """\
lto1: fatal error: bytecode stream in file '/opt/lto/lib/python3.11/config-3.11-x86_64-linux-gnu/libpython3.11.a' \
generated with LTO version 11.3 instead of the expected 12.0
lto-wrapper: fatal error: gcc returned 1 exit status
compilation terminated.
/usr/bin/ld: error: lto-wrapper failed
collect2: error: ld returned 1 exit status"""
NO_COMPILER = "error: subprocess-exited-with-error\nerror: command 'gcc' failed: No such file or directory"
NO_HEADER = "Failed building wheel for psycopg2\nerror: libpq-fe.h: No such file or directory"
NOT_FOUND = "ERROR: No matching distribution found for flaskk"
UWSGI = "uwsgi==2.0.31 --hash=sha256:0"
PYUWSGI = "pyuwsgi==2.0.30 --hash=sha256:1"


# the ways to build


def ways(recipe: Recipe, *errors: str, built_by: str = "gcc-11") -> list[tuple[str, str, str]]:
    """Requirement, compiler and flags of each attempt, of which the first ones fail like this and the next works."""
    tried: list[Attempt] = []
    for attempt in attempts(recipe, lambda: built_by, tried):
        tried.append(attempt)
        if len(tried) > len(errors):
            break
        attempt.error = errors[len(tried) - 1]
    return [(attempt.requirements.partition("==")[0], attempt.compiler, attempt.flags) for attempt in tried]


AUTO = Recipe(UWSGI, gcc="auto")
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
def test_what_links_with_python_is_built_by_gcc_and_then_by_what_helps(
    errors: list[str], expected: list[tuple[str, str, str]]
) -> None:
    assert ways(replace(AUTO, prebuilt=PYUWSGI), *errors) == expected


@pytest.mark.parametrize("line", [LTO_MISMATCH.splitlines()[number] for number in (0, 3)])
def test_each_line_of_the_linker_tells_of_the_mismatch(line: str) -> None:
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
def test_a_compiler_is_for_what_has_no_wheel(errors: list[str], expected: list[str]) -> None:
    assert [compiler for _, compiler, _ in ways(Recipe("flask"), *errors)] == expected


def test_what_needs_a_librarys_headers_is_compiled_at_once() -> None:
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
        (Attempt("--no-binary :all:\nflask\n  # via me\n", seconds=0.6), "flask by no compiler, 1 s"),
        (Attempt("flask\nclick\n", "gcc"), "flask and 1 more by gcc, 0 s"),
        (Attempt("# flask\n"), "the project by no compiler, 0 s"),
        (Attempt("git+https://me:s3cret@host/x\n"), "git+https://host/x by no compiler, 0 s"),
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
def test_an_explanation_tells_what_a_missing_file_takes(error: str, missing: str) -> None:
    assert explain([Attempt("psycopg2", "gcc", error=error)]).splitlines()[-1] == (
        f"name the package that brings {missing} in build_packages of the app (apt-file search)"
    )


@pytest.mark.parametrize(
    ("compiler", "expected"),
    [("GCC 11.3.0", "gcc-11"), ("GCC 4.8.5 20150623 (Red Hat)", "gcc-4"), ("Clang 14.0.6", "")],
)
def test_the_compiler_that_has_built_an_interpreter(tmp_path: Path, compiler: str, expected: str) -> None:
    assert gcc_of(script(tmp_path / "python3", f"echo '{compiler}'")) == expected


def script(path: Path, lines: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return str(path)


# a host: a fake distribution, and a fake interpreter whose pip does what a test tells it

DEPENDS = {
    "gcc": ["gcc-12"], "gcc-12": ["cpp-12", "libc6-dev"], "gcc-11": ["cpp-11"], "build-essential": ["gcc", "make"],
    "python3-dev": ["libc6-dev"],
}  # fmt: skip

DISTRIBUTION = """#!{python} -SE
import json, pathlib, sys

state = pathlib.Path("{state}")
host = json.loads(state.read_text())
name, words = pathlib.Path(sys.argv[0]).name, [word for word in sys.argv[1:] if not word.startswith("-")]
installed, depends = host["installed"], host["depends"]


def closure(packages):
    found = []
    for package in packages:
        found += closure(depends.get(package, [])) + [package]
    return found


if name == "dpkg-query":
    print("".join(f"{{package}} installed\\n" for package in installed) + "vim config-files")
    sys.exit()
host["calls"].append(" ".join([name, *sys.argv[1:]]))
if name == "apt-mark" and words[0] == "showauto":
    print("\\n".join(package for package in words[1:] if installed.get(package) == "auto"))
elif name == "apt-mark":
    if not words[1:]:
        sys.exit("E: No packages found")
    installed.update(dict.fromkeys(words[1:], "auto"))
else:
    if host["locked"] and "--simulate" not in sys.argv:
        state.write_text(json.dumps({{**host, "locked": host["locked"] - 1}}))
        sys.exit("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)")
    action, *packages = words
    packages = [host["provides"].get(package, package) for package in packages]
    simulated = "--simulate" in sys.argv
    if action == "update":
        host["gone"] = []
    elif action == "install":
        host["fails"] -= not simulated
        unknown = [package for package in packages if package in host["gone"]]
        if unknown or (not simulated and host["fails"] >= 0):
            state.write_text(json.dumps(host))
            sys.exit(f"E: Unable to locate package {{unknown}}")
        for package in dict.fromkeys(closure(packages)):
            if package not in installed:
                print(f"Inst {{package}} (1.0 Debian:12 [amd64])")
                installed[package] = "manual" if package in packages and "--mark-auto" not in sys.argv else "auto"
        for package in host["upgrades"]:
            print(f"Inst {{package}} [1.0] (1.1 Debian:12 [amd64])")
    elif action == "purge":
        for package in [package for package in installed if set(closure([package])) & set(packages)]:
            print(f"Purg {{package}} [1.0]")
            installed.pop(package)
    if simulated:
        host = {{**json.loads(state.read_text()), "calls": host["calls"]}}
state.write_text(json.dumps(host))
"""


class Host:
    """What is installed on a host, ``manual`` or ``auto``, and what its programs were asked."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state.json"
        self.noted = folder / "toolchain.json"
        self.write(
            installed={"libc6": "auto"}, depends=DEPENDS, provides={}, gone=[], upgrades=[], fails=0, calls=[], locked=0
        )
        for name in ("apt-get", "apt-mark", "dpkg-query"):
            path = folder / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(DISTRIBUTION.format(python=sys.executable, state=self.state))
            path.chmod(0o755)

    def __getitem__(self, name: str) -> Any:
        return json.loads(self.state.read_text())[name]

    def write(self, **changed: Any) -> None:
        before = json.loads(self.state.read_text()) if self.state.exists() else {}
        self.state.write_text(json.dumps({**before, **changed}))

    def install(self, **packages: str) -> None:
        """Have packages, as if somebody had installed them meanwhile. In a name, _ stands for -."""
        given = {name.replace("_", "-"): how for name, how in packages.items()}
        self.write(installed={**self["installed"], **given})

    def asked(self, action: str) -> list[str]:
        """The packages of each call of an action that was no simulation."""
        return [
            call.split(f" {action} ")[1] for call in self["calls"] if f" {action} " in call and "--simulate" not in call
        ]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host without a compiler."""
    (tmp_path / "host").mkdir()
    host = Host(tmp_path / "host")
    monkeypatch.setenv("PATH", f"{tmp_path}/host/bin:{os.environ['PATH']}")
    monkeypatch.setattr(builds, "TOOLCHAIN", host.noted)
    monkeypatch.setattr(sandbox, "CA_BUNDLE", tmp_path / "no-bundle.crt")
    return host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where wheels are to be."""
    return tmp_path / "wheels"


class Python:
    """A fake interpreter, whose pip fails with these words, in turn, and then makes a wheel and what it requires."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.path = script(
            folder / "python3",
            f"""
            cd {folder}
            case "$*" in
              "-I -m venv "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && exit ;;
              "-I -c "*) echo GCC 11.3.0; exit ;;
            esac
            number=$(ls | grep -c calls)
            printf '%s\\n' "$@" > "calls$number"
            env > "env$number"
            [ -z "$NETRC" ] || cat "$NETRC" > login
            for last; do [ "$previous" != -c ] || [ "$3" != wheel ] || cp "$last" constraints; previous=$last; done
            [ -d "$last" ] || cp "$last" "requirements$number"
            [ "$3" = wheel ] || exit 0
            while [ "$1" != --wheel-dir ]; do shift; done
            mkdir -p "$2"
            case " $* " in *" --no-deps "*)
              echo blog > "$2/blog-1.0-py3-none-any.whl"; ls "$last" > project
              echo "Successfully built blog"; exit ;;
            esac
            echo half > "$2/half.whl"
            for fails in fails-*; do [ -f "$fails" ] && cat "$fails" >&2 && rm "$fails" && exit 1; done
            rm "$2/half.whl"
            echo uwsgi > "$2/uwsgi-2.0.31-cp311-cp311-linux_x86_64.whl"
            echo click > "$2/click-8-py3-none-any.whl"
            if [ -f builds ] || dpkg-query --show | grep -q '^gcc'; then echo "Successfully built uWSGI markupsafe"; fi
            """,
        )

    def fails_with(self, *errors: str) -> None:
        for number, error in enumerate(errors):
            (self.folder / f"fails-{number}").write_text(error)

    def builds_anyway(self) -> None:
        """Build also where there is no compiler, as pip does what has an extension that is optional."""
        (self.folder / "builds").touch()

    def calls(self, command: str = "wheel") -> list[list[str]]:
        """The arguments of each call of one of pip's commands."""
        found = (path.read_text().splitlines() for path in sorted(self.folder.glob("calls*")))
        return [words[3:] for words in found if words[2] == command]

    def requirements(self) -> list[str]:
        """What each call has read."""
        return [path.read_text() for path in sorted(self.folder.glob("requirements*"))]

    def constraints(self) -> str:
        """What the last call has read as constraints."""
        return (self.folder / "constraints").read_text()

    def variables(self) -> list[dict[str, str]]:
        """The environment of each call."""
        found = (path.read_text().splitlines() for path in sorted(self.folder.glob("env*")))
        return [dict(line.split("=", 1) for line in lines if "=" in line) for lines in found]


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
    assert (built.compiled, str(built.tried[0])) == (["blog"], "the project by no compiler, 0 s")
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


def test_what_a_project_needs_may_be_told_by_it_alone(
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


def test_all_wheels_are_told_by_name_and_hash(host: Host, python: Python, folder: Path) -> None:
    built = build(Recipe("uwsgi\n"), python.path, folder)
    assert [wheel["file"] for wheel in built.wheels] == [
        "click-8-py3-none-any.whl",
        "uwsgi-2.0.31-cp311-cp311-linux_x86_64.whl",
    ]
    assert [wheel["sha256"] for wheel in built.wheels] == [sha256_of(folder / wheel["file"]) for wheel in built.wheels]
    assert built.compiled == []
    assert [str(attempt).rpartition(",")[0] for attempt in built.tried] == ["uwsgi by no compiler"]


def test_what_can_be_built_without_a_compiler_is_built_with_one(host: Host, python: Python, folder: Path) -> None:
    """An extension that is optional would be missing, on each host."""
    python.builds_anyway()
    built = build(Recipe("markupsafe\n"), python.path, folder)
    assert [attempt.compiler for attempt in built.tried] == ["", "gcc"]
    assert "uWSGI, markupsafe was built without a compiler" in built.tried[0].error
    assert built.compiled == ["uWSGI", "markupsafe"]


def test_two_builds_on_a_host_wait_for_each_other(
    host: Host, python: Python, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "PATIENCE_SECONDS", 0.1)
    with lock(host.noted.with_suffix(".lock")), pytest.raises(BuildFailed, match=rf"process {os.getpid()} has been"):
        build(AUTO, python.path, folder)
    assert host["calls"] == []


def test_upgrades_of_the_host_are_told(host: Host, python: Python, folder: Path) -> None:
    host.write(upgrades=["libc6"])
    built = build(AUTO, python.path, folder)
    assert re.fullmatch(r"uwsgi==2\.0\.31 by gcc, \d+ s, upgraded libc6", str(built.tried[0]))


def test_variables_of_a_recipe_reach_pip(host: Host, python: Python, folder: Path) -> None:
    build(Recipe("uwsgi\n", variables={"UWSGI_PROFILE_OVERRIDE": "ssl=false"}), python.path, folder)
    assert python.variables()[-1]["UWSGI_PROFILE_OVERRIDE"] == "ssl=false"


def test_of_a_failed_attempt_nothing_is_left_for_the_next(host: Host, python: Python, folder: Path) -> None:
    python.fails_with(LTO_MISMATCH)
    built = build(AUTO, python.path, folder)
    assert {path.name for path in folder.iterdir()} == {wheel["file"] for wheel in built.wheels}
    assert "half.whl" not in {path.name for path in folder.iterdir()}
    assert [attempt.error.splitlines()[1:] for attempt in built.tried] == [LTO_MISMATCH.splitlines(), []]


def test_where_nothing_works_nothing_is_left_and_all_is_told(host: Host, python: Python, folder: Path) -> None:
    python.fails_with(LTO_MISMATCH, LTO_MISMATCH, "cannot link", "no such wheel")
    with pytest.raises(BuildFailed) as failed:
        build(replace(AUTO, prebuilt=PYUWSGI), python.path, folder)
    assert not folder.exists()
    assert re.findall(r"^tried (.*), \d+ s:$", str(failed.value), re.MULTILINE) == [
        "uwsgi==2.0.31 by gcc", "uwsgi==2.0.31 by gcc -fno-lto", "uwsgi==2.0.31 by gcc-11",
        "pyuwsgi==2.0.30 by no compiler",
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
def test_a_recipe_tells_whether_what_builds_it_comes_from_the_index(
    host: Host, python: Python, folder: Path, isolation: bool
) -> None:
    build(replace(AUTO, tools="wheel==1", isolation=isolation), python.path, folder)
    (call,) = python.calls()
    assert ("--no-build-isolation" in call) == (not isolation)


def test_headers_are_there_for_the_build_alone(host: Host, python: Python, folder: Path) -> None:
    host.write(depends={**DEPENDS, "libpq-dev": ["libpq5"]})
    there = during(host, python, folder, gcc="", build_packages=("libpq-dev",))
    assert {"libpq-dev", "libpq5", "gcc", "python3-dev"} <= there.keys()
    assert host["installed"] == BEFORE


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
    """And nobody's own settings count."""
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


# the toolchain

WITH_HEADERS = replace(AUTO, packages=("gcc", "python3-dev"))
BEFORE = {"libc6": "auto"}


def during(host: Host, python: Python, folder: Path, *meanwhile: Callable[[], None], **changed: Any) -> dict[str, str]:
    """Build with a compiler; what was installed during the build. What happens meanwhile does so at its end."""
    seen: list[dict[str, str]] = []
    wheel = builds._wheel

    def watch(*arguments: Any) -> str:
        said = wheel(*arguments)
        seen.append(host["installed"])
        for happens in meanwhile:
            happens()
        return said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builds, "_wheel", watch)
        build(replace(WITH_HEADERS, **changed), python.path, folder)
    return seen[-1]


def test_a_compiler_is_there_for_the_build_alone(host: Host, python: Python, folder: Path) -> None:
    there = during(host, python, folder)
    assert there.keys() == {"libc6", "gcc", "gcc-12", "cpp-12", "libc6-dev", "python3-dev"}
    assert (host["installed"], host.noted.exists()) == (BEFORE, False)


def test_a_compiler_is_gone_after_a_build_that_fails(host: Host, python: Python, folder: Path) -> None:
    python.fails_with("no")
    with pytest.raises(BuildFailed):
        build(WITH_HEADERS, python.path, folder)
    assert (len(host.asked("install")), host["installed"]) == (1, BEFORE)


def test_only_what_was_missing_is_installed_and_removed_again(host: Host, python: Python, folder: Path) -> None:
    host.install(libc6_dev="auto", gcc_12="manual", cpp_12="auto")
    before = host["installed"]
    assert during(host, python, folder).keys() - before.keys() == {"gcc", "python3-dev"}
    assert host["installed"] == before


def test_where_all_is_there_nothing_is_installed_or_removed(host: Host, python: Python, folder: Path) -> None:
    host.install(gcc="manual", gcc_12="auto", cpp_12="auto", libc6_dev="auto", python3_dev="manual")
    during(host, python, folder)
    assert host["calls"] == []


def test_what_another_package_provides_already_is_no_failure(host: Host, python: Python, folder: Path) -> None:
    host.write(provides={"libc-dev": "libc6-dev"})
    host.install(gcc="manual", libc6_dev="manual")
    before = host["installed"]
    during(host, python, folder, packages=("libc-dev",))
    assert host["installed"] == before


def test_what_was_removed_but_for_its_settings_is_not_there(host: Host, python: Python, folder: Path) -> None:
    """The fake distribution has such a vim."""
    during(host, python, folder, packages=("vim",))
    assert host.asked("install") == ["vim gcc"]


def test_what_has_a_wheel_needs_no_compiler(host: Host, python: Python, folder: Path) -> None:
    build(Recipe("flask", packages=("gcc",)), python.path, folder)
    assert host["calls"] == []


def test_a_second_compiler_is_installed_beside_the_first_and_both_go(host: Host, python: Python, folder: Path) -> None:
    python.fails_with(LTO_MISMATCH, LTO_MISMATCH)
    assert {"gcc", "gcc-11", "cpp-11"} <= during(host, python, folder).keys()
    assert host["installed"] == BEFORE


def test_upgrades_that_came_along_are_not_removed(host: Host, python: Python, folder: Path) -> None:
    host.write(upgrades=["libc6"])
    during(host, python, folder)
    assert host["installed"] == BEFORE


def test_what_is_to_be_kept_stays_and_is_removed_by_the_next_build_that_keeps_nothing(
    host: Host, python: Python, folder: Path
) -> None:
    there = during(host, python, folder, keep_toolchain=True)
    assert host["installed"].keys() == there.keys()
    during(host, python, folder)
    assert host["installed"] == BEFORE


def test_what_is_kept_or_in_use_is_not_cleaned_up(host: Host, python: Python, folder: Path) -> None:
    there = during(host, python, folder, clean_up, keep_toolchain=True)
    clean_up()
    assert host["installed"].keys() == there.keys()


def test_wheels_are_kept_where_their_compiler_cannot_be_removed(
    host: Host, python: Python, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another apt holds the lock, for one; the next run cleans up."""
    run = builds._run

    def fails_to_purge(argv: Sequence[str]) -> str:
        if "purge" in argv and "--simulate" not in argv:
            raise BuildFailed("E: Could not get lock")
        return run(argv)

    monkeypatch.setattr(builds, "_run", fails_to_purge)
    assert build(WITH_HEADERS, python.path, folder).wheels
    monkeypatch.setattr(builds, "_run", run)
    clean_up()
    assert (host["installed"], host.noted.exists()) == (BEFORE, False)


def test_what_others_need_by_now_stays(host: Host, python: Python, folder: Path) -> None:
    during(host, python, folder, lambda: host.install(make="auto", build_essential="manual"))
    assert {"build-essential", "gcc", "gcc-12"} <= host["installed"].keys()
    assert not host.noted.exists()


def test_what_somebody_has_asked_for_meanwhile_stays_with_what_it_needs(
    host: Host, python: Python, folder: Path
) -> None:
    during(host, python, folder, lambda: host.install(gcc="manual"))
    assert {"gcc", "gcc-12", "cpp-12", "libc6-dev"} <= host["installed"].keys()


def test_what_somebody_has_asked_for_meanwhile_stays(host: Host, python: Python, folder: Path) -> None:
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
        patch.setattr(builds, "_run", until(builds._run))
        patch.setattr(Sandbox, "run", until(Sandbox.run))
        patch.setattr(builds, "_remove", lambda: None)
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


def test_a_build_that_was_killed_before_it_has_installed_anything_is_none(
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


def test_another_run_of_apt_that_does_not_end_is_told(
    host: Host, python: Python, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write(locked=99)
    monkeypatch.setattr(builds, "APT_LOCK_SECONDS", 0)
    with pytest.raises(BuildFailed, match="It is held by process 1"):
        build(replace(AUTO, gcc="9"), python.path, folder)


def test_a_compiler_that_the_distribution_has_not_is_told(host: Host, python: Python, folder: Path) -> None:
    host.write(fails=99)
    with pytest.raises(BuildFailed, match=r"(?s)tried uwsgi==2.0.31 by gcc-9, \d+ s:.*Unable to locate package"):
        build(replace(AUTO, gcc="9"), python.path, folder)
    assert (python.calls(), host["installed"]) == ([], BEFORE)
