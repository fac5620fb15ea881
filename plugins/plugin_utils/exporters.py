"""Exporting lock files to requirements files, each by the tool that wrote it.

Poetry and Pipenv have many dependencies, so they have an environment of their own. It is pinned in exporters.txt and
made when the first app needs it.

::

    .cache/exporters/<digest>/       an environment that has Poetry and Pipenv
    .cache/exported/<digest>.txt     an exported file, by a hash over its inputs
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from uv import find_uv_bin

from .cache import CACHE, locked, settle
from .rendering import PROJECT
from .sources import SourceError, redact

PINNED = PROJECT / "plugins" / "plugin_utils" / "exporters.txt"
TIME_LIMIT_SECONDS = 300
# Not the command poetry export, because that installs and runs the plugins that a project names.
POETRY = """
import json, sys
from pathlib import Path
from cleo.io.null_io import NullIO
from poetry.factory import Factory
from poetry_plugin_export.exporter import Exporter

extras, groups = map(json.loads, sys.argv[1:])
poetry = Factory().create_poetry(Path.cwd(), io=NullIO(), disable_plugins=True, disable_cache=True)
if not poetry.locker.is_fresh():
    sys.exit("pyproject.toml has changed since it was locked; run: poetry lock")
unknown = {*extras} - {*poetry.package.extras}, {*groups} - poetry.package.dependency_group_names(True)
if any(unknown):
    sys.exit(f"there is no {', '.join(sorted(unknown[0] | unknown[1]))} in pyproject.toml")
exporter = Exporter(poetry, NullIO()).only_groups(["main", *groups]).with_extras(extras).with_urls(False)
exporter.export("requirements.txt", Path.cwd(), "/dev/stdout")
"""


def _uv_argv(extras: list[str], groups: list[str]) -> list[str]:
    options = ["--frozen", "--no-emit-project", "--no-header", "--no-annotate", "--no-default-groups"]
    chosen = [f"--extra={extra}" for extra in extras] + [f"--group={group}" for group in groups]
    return [find_uv_bin(), "export", "--quiet", "--no-config", "--no-cache", *options, *chosen]


def _poetry_argv(extras: list[str], groups: list[str]) -> list[str]:
    return [str(_environment() / "bin/python"), "-c", POETRY, json.dumps(extras), json.dumps(groups)]


def _pipenv_argv(extras: list[str], groups: list[str]) -> list[str]:
    if extras:
        raise SourceError("extras are not of a Pipfile.lock; leave them out")
    return [
        str(_environment() / "bin/python"), "-m", "pipenv", "requirements", "--hash", "--exclude-index", "--categories",
        " ".join(["packages", *groups]),
    ]  # fmt: skip


# By lock file: the command line of its tool, and the file that it locks.
EXPORTERS: dict[str, tuple[Callable[[list[str], list[str]], list[str]], str]] = {
    "uv.lock": (_uv_argv, "pyproject.toml"),
    "poetry.lock": (_poetry_argv, "pyproject.toml"),
    "Pipfile.lock": (_pipenv_argv, "Pipfile"),
}


def exported(lock: Path, extras: list[str], groups: list[str]) -> str:
    """The text of the requirements file that a lock file exports to, every line with hashes.

    :raises SourceError: its tool can't be installed or refuses the file; the message has the tool's output.
    """
    final = cached_path(lock, extras, groups)
    with locked(final.parent) as aside:
        if not final.exists():
            try:
                text = _run(EXPORTERS[lock.name][0](extras, groups), lock.parent, aside)
            except SourceError as error:
                raise SourceError(f"{lock}: {error}") from error
            (aside / final.name).write_text(text)
            settle(aside / final.name, final)
    return final.read_text()


def cached_path(lock: Path, extras: list[str], groups: list[str]) -> Path:
    """The cached result of ``exported``. If it exists, the lock file's tool is not needed.

    :raises SourceError: the file that the lock file locks is missing.
    """
    _, locked_name = EXPORTERS[lock.name]
    manifest = lock.with_name(locked_name)
    if not manifest.is_file():
        raise SourceError(f"{lock}: there is no {locked_name} beside it, which it locks; copy that, too")
    inputs = [lock.name, lock.read_text(), manifest.read_text(), extras, groups, POETRY, PINNED.read_text()]
    return CACHE / "exported" / f"{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]}.txt"


def _environment() -> Path:
    """The environment that has Poetry and Pipenv, made if it is not there."""
    folder = CACHE / "exporters"
    final = folder / hashlib.sha256(PINNED.read_bytes() + sys.version.encode()).hexdigest()[:12]
    with locked(folder) as aside:
        if not final.exists():
            made = aside / final.name
            _run([sys.executable, "-m", "venv", str(made)], aside, aside)
            install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(PINNED)]
            _run([str(made / "bin/python"), "-m", "pip", *install], aside, None)
            settle(made, final)
    return final


def _run(argv: list[str], folder: Path, home: Path | None) -> str:
    """Run a tool; its output. It leaves nothing in the source.

    :param home: the tool's home; with None it has the user's home and variables.
    """
    isolated = {
        "HOME": str(home), "UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never", "PIPENV_DONT_LOAD_ENV": "1",
        "PIPENV_IGNORE_VIRTUALENVS": "1", "PIPENV_NO_INHERIT": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "POETRY_VIRTUALENVS_CREATE": "0", "NO_COLOR": "1",
    }  # fmt: skip
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env={**os.environ, **(isolated if home else {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=TIME_LIMIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"{argv[0]} can't be run: {error}") from error
    if done.returncode:
        raise SourceError(f"its tool says: {redact(' '.join((done.stderr or done.stdout).split()))[-2000:]}")
    return done.stdout
