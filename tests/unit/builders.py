"""A host that builds: a fake distribution, and a fake interpreter whose pip does what a test asks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet import sandbox, toolchain
from ansible.module_utils.flaskfleet.builds import Recipe

LTO_MISMATCH = """\
lto1: fatal error: bytecode stream in file '/opt/lto/lib/python3.11/config-3.11-x86_64-linux-gnu/libpython3.11.a' \
generated with LTO version 11.3 instead of the expected 12.0
lto-wrapper: fatal error: gcc returned 1 exit status
compilation terminated.
/usr/bin/ld: error: lto-wrapper failed
collect2: error: ld returned 1 exit status"""
UWSGI = "uwsgi==2.0.31 --hash=sha256:0"
AUTO = Recipe(UWSGI, gcc="auto")


def script(path: Path, lines: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return str(path)


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
    """The packages of a host, ``manual`` or ``auto``, and the calls of its programs."""

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
        """Add packages, as if a user had installed them meanwhile. In a name, _ stands for -."""
        given = {name.replace("_", "-"): how for name, how in packages.items()}
        self.write(installed={**self["installed"], **given})

    def asked(self, action: str) -> list[str]:
        """The packages of each call of an action that was no simulation."""
        return [
            call.split(f" {action} ")[1] for call in self["calls"] if f" {action} " in call and "--simulate" not in call
        ]


def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host without a compiler."""
    (tmp_path / "host").mkdir()
    host = Host(tmp_path / "host")
    monkeypatch.setenv("PATH", f"{tmp_path}/host/bin:{os.environ['PATH']}")
    monkeypatch.setattr(toolchain, "TOOLCHAIN", host.noted)
    monkeypatch.setattr(sandbox, "CA_BUNDLE", tmp_path / "no-bundle.crt")
    return host


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
        """Build also without a compiler, as pip does if an extension is optional."""
        (self.folder / "builds").touch()

    def calls(self, command: str = "wheel") -> list[list[str]]:
        """The arguments of each call of one of pip's commands."""
        found = (path.read_text().splitlines() for path in sorted(self.folder.glob("calls*")))
        return [words[3:] for words in found if words[2] == command]

    def requirements(self) -> list[str]:
        """The requirements of each call."""
        return [path.read_text() for path in sorted(self.folder.glob("requirements*"))]

    def constraints(self) -> str:
        """The constraints of the last call."""
        return (self.folder / "constraints").read_text()

    def variables(self) -> list[dict[str, str]]:
        """The environment of each call."""
        found = (path.read_text().splitlines() for path in sorted(self.folder.glob("env*")))
        return [dict(line.split("=", 1) for line in lines if "=" in line) for lines in found]
