"""The app ``blog`` and its releases A, B, C and D."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.flaskfleet.environments import Environment
from ansible.module_utils.flaskfleet.secret_files import Secrets
from ansible.module_utils.flaskfleet.staging import Release
from ansible.module_utils.flaskfleet.wheels import Wheel
from plugin_utils.entries import complete, of_a_release
from plugin_utils.packing import pack
from plugin_utils.release_contents import contents

A, B, C, D = (letter * 12 for letter in "abcd")
APP_ID, WEB_ID = 1001, 33  # of the user and group blog, and of the group www-data
ME = "me@laptop"
PYTHON = sys.executable
PLATFORM = "debian-12-x86_64-cp311/1a2b3c4d"
STATIC = {"/static": "blog/static", "/favicon": "icons"}
ENV = {
    "EMPTY": "",
    "SNOWMAN": "☃",
    "QUOTES": """'single' "double" `back` \\""",
    "PERCENT": "50% %(here)s %%",
    "AT": "@(/etc/passwd)",
    "DOLLAR": "$HOME ${HOME}",
    "SPACES": "  kept  ",
    "LINES": "one\ntwo",
}
NO_SECRETS = Secrets("0" * 12, {}, {})
SECRETS = Secrets("5" * 12, {"KEY": "s3cret"}, {"instance/config.py": "KEY = 's3cret'\n"})
MAILER = {"mailer": {"command": "python -m blog.mailer", "stop_seconds": 45}}
FILES = {"app.py": "app = None\n", "pkg/__init__.py": "", "pkg/data.txt": "☃\n", "manage": "#!/bin/sh\n"}


def app_entry(**changed: Any) -> dict[str, Any]:
    """An entry of flask_apps with its defaults, as a release has it."""
    given = {
        "source": {"path": "/home/me/blog"},
        "wsgi": "blog:app",
        "static": STATIC,
        "processes": 2,
        "health": {"path": "/healthz?deep=1", "timeout_seconds": 5},
        **changed,
    }
    return of_a_release(complete({"blog": given})["blog"])


def make_release(id: str, **changed: Any) -> Release:
    """A release's inputs. ``changed`` are options of the app's entry."""
    entry = app_entry(**changed)
    programs = "".join(f"[program:blog-{id}-{name}]\n" for name in entry["programs"])
    return Release(
        id=id,
        files={
            "uwsgi.ini": f"[uwsgi]\n; ☃ {id}\n",
            "supervisor.conf": f"[program:blog-{id}]\ncommand = uwsgi {id}\n",
            "programs.conf": programs,
            "exec": f'#!/bin/sh\n# {id}\nexec "$@"\n',
            "serve": f"#!/bin/sh\n# {id}\n",
        },
        env={"FLASKFLEET_RELEASE": id, **ENV},
        static=entry["static"],
        record={
            "app": "blog",
            "release": id,
            "source": {"path": "/home/me/blog"},
            "host": "blog.example",
            "inputs": {"source": "1a", "entry": entry},
        },
    )


def make_environment(pool: Path, *names: str) -> Environment:
    """An environment with a wheel set for each name; the host has the wheels."""
    wheels = [Wheel(file=f"{name}-1.0-py3-none-any.whl", sha256=f"{number}" * 64) for number, name in enumerate(names)]
    for wheel in wheels:
        (pool / wheel["sha256"]).mkdir(parents=True)
        (pool / wheel["sha256"] / wheel["file"]).write_bytes(wheel["file"].encode())
    return Environment(PYTHON, PLATFORM, names, tuple(wheels))


def of_a_package(release: Release) -> Release:
    """A release from a package, whose static files are below its environment's site-packages."""
    record = {**release.record, "source": {"package": "blog==1.2"}}
    return replace(release, record=record, static={"/static": "blog/static"})


def pack_source(folder: Path) -> Path:
    """The archive of the app's source."""
    source = folder / "source"
    for name, content in {
        "blog/__init__.py": "app = None\n",
        "blog/static/style.css": "body {}\n",
        "blog/static/img/a.svg": "<svg/>\n",
        "icons/favicon.ico": "icon",
        "manage": "#!/bin/sh\n",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    (source / "manage").chmod(0o755)
    (source / "link").symlink_to("blog/static/style.css")
    pack(source, contents(source).files, STATIC, folder / "blog.tar.gz")
    return folder / "blog.tar.gz"


def write(source: Path, name: str, content: str | bytes) -> str:
    """Write a file below a source; its name."""
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def make_source(folder: Path, names: list[str] | None = None) -> Path:
    """Make the source of the tests; ``names`` give the order in which it is written."""
    for name in names or FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(FILES[name])
    (folder / "manage").chmod((folder / "manage").stat().st_mode | 0o100)
    (folder / "link").symlink_to("pkg/data.txt")
    return folder
