"""An app's paths on a host, and what can be read from them. Nothing here writes.

::


    /srv/<app>/releases/<release>/  src/ static/<prefix>/ env/ run/ uwsgi.ini supervisor.conf programs.conf
                                    exec serve release.json manifest.json  venv -> ../../venvs/<key>
                                    secrets -> ../../secrets/<set>
                                    files/  those of ``files`` that stand below a shared path
                                    seed/   what the source has at its shared paths
    /srv/<app>/venvs/<key>/         see environments.py
    /srv/<app>/secrets/<set>/       env/ one file per variable, files/; a release has one, which its next start reads
    /srv/<app>/shared/, media/      what outlives releases, see shared.py
    /srv/<app>/current              -> releases/<release>, the only switch
    /srv/<app>/next, previous       the same, for static files only
    /srv/<app>/router               -> venvs/<key>, whose uWSGI listens for http, where nginx does not
    /var/log/<app>/<release>.log    current.log -> the live one's
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import read_json
from .journal import Journal, release_id

NAME = r"[0-9a-f]{12}(?:\.\d+)?"  # of a release: its id, with a number for each restart
WEB_GROUP = "www-data"  # nginx's, which reaches sockets and reads static files


class ReleaseFailed(Exception):
    """A release was refused; the message holds the app's own words. What was live is untouched."""


class AppPaths:
    """The paths of an app. ``root`` is / but in tests.

    :raises ReleaseFailed: a name that would lead out of them.
    """

    def __init__(self, name: str, root: Path = Path("/")) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            raise ReleaseFailed(f"app: {name!r} is no app's name")
        self.name = name
        self.user_home = f"/srv/{name}"  # in /etc/passwd
        self.home = root / "srv" / name
        self.venvs = self.home / "venvs"
        self.pool = root / "var/lib/flaskfleet/wheels"
        self.logs = root / "var/log" / name
        self.trial = root / "run/flaskfleet/supervisor.d"
        self.conf_d = root / "etc/supervisor/conf.d"
        self.journal_file = root / "var/lib/flaskfleet/apps" / f"{name}.json"
        self.singletons_file = self.journal_file.with_suffix(".singletons")  # if this host runs them
        self.step_file = self.journal_file.with_suffix(".lock")  # locked while a step runs
        self.lock_record_file = root / "run/flaskfleet" / f"{name}.rollout.json"
        self.audit_file = root / "var/log/flaskfleet.log"
        self.shared_tmp = (root / "tmp", root / "var/tmp", root / "dev/shm")  # folders where any user may write

    def live(self) -> str | None:
        """The release that ``current`` points at, if it is there."""
        live = self.target("current")
        return live if live and self.path(live).is_dir() else None

    def target(self, link: str) -> str | None:
        """The name of what a link below the app's home points at."""
        try:
            return Path(os.readlink(self.home / link)).name
        except FileNotFoundError:
            return None

    def path(self, release: str) -> Path:
        """Where a release lies."""
        return self.home / "releases" / release

    def on_disk(self) -> list[str]:
        """The complete releases."""
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self.home / "releases") if re.fullmatch(NAME, name))
        return []

    def record(self, release: str) -> dict[str, Any]:
        """What a release was made from."""
        return read_json(self.path(release) / "release.json") or {}

    def entry(self, release: str) -> dict[str, Any]:
        """The app's entry in the inventory, as of a release."""
        entry: dict[str, Any] = self.record(release)["inputs"]["entry"]
        return entry

    def journal(self) -> Journal:
        """What became live, and when."""
        return Journal(self.journal_file, self.live())

    def name_of(self, id: str) -> str | None:
        """The name under which a release lies on disk: its id, or of its last restart."""
        same = [release for release in self.on_disk() if release_id(release) == id]
        return max(same, key=generation, default=None)

    def previous(self) -> str | None:
        """What was live before: where a rollback leads to."""
        journal, live = self.journal(), self.live()
        left = {release_id(live or ""), *journal.voided}
        on_disk = self.on_disk()
        return next((name for name in journal.newest_first() if name in on_disk and release_id(name) not in left), None)


def generation(release: str) -> int:
    """The number of a restart in a release's name, 0 for none."""
    return int(release.partition(".")[2] or 0)
