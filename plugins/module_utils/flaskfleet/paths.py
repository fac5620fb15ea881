"""An app's paths on a host, and what can be read from them. Nothing here writes.

::

    /srv/<app>/releases/<release>/  src/ static/<prefix>/ env/ run/ uwsgi.ini supervisor.conf programs.conf
                                    exec serve release.json manifest.json  venv -> ../../venvs/<key>
                                    secrets -> ../../secrets/<set>
                                    files/  those of the app's ``files`` that lie below a shared path
                                    seed/   what the source has at its shared paths
    /srv/<app>/venvs/<key>/         see environments.py
    /srv/<app>/secrets/<set>/       env/ one file per variable, files/; a release reads its set at its next start
    /srv/<app>/shared/, media/      shared paths, see shared.py
    /srv/<app>/current              -> releases/<release>, the only switch
    /srv/<app>/next, previous       -> releases/<release>, for static files only
    /srv/<app>/router               -> venvs/<key>, whose uWSGI listens for http if nginx does not
    /var/log/<app>/<release>.log    current.log -> the log of the live release
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
    """A step of a release failed; the message has the app's own output. The live release is unchanged."""


class AppPaths:
    """The paths of an app. ``root`` is not / in tests.

    :raises ReleaseFailed: the name would lead to another folder.
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
        """The release that ``current`` points at, if it is on disk."""
        live = self.target("current")
        return live if live and self.path(live).is_dir() else None

    def target(self, link: str) -> str | None:
        """The name of the file that a link below the app's home points at; None if there is no such link."""
        try:
            return Path(os.readlink(self.home / link)).name
        except FileNotFoundError:
            return None

    def path(self, release: str) -> Path:
        """The folder of a release."""
        return self.home / "releases" / release

    def on_disk(self) -> list[str]:
        """The complete releases."""
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self.home / "releases") if re.fullmatch(NAME, name))
        return []

    def record(self, release: str) -> dict[str, Any]:
        """A release's record, release.json."""
        return read_json(self.path(release) / "release.json") or {}

    def entry(self, release: str) -> dict[str, Any]:
        """The app's entry in the inventory when a release was made."""
        entry: dict[str, Any] = self.record(release)["inputs"]["entry"]
        return entry

    def journal(self) -> Journal:
        """The app's journal."""
        return Journal(self.journal_file, self.live())

    def name_of(self, id: str) -> str | None:
        """The name of a release on disk: its id, or the name of its last restart."""
        names = [release for release in self.on_disk() if release_id(release) == id]
        return max(names, key=generation, default=None)

    def previous(self) -> str | None:
        """The release that a rollback switches to."""
        journal, live = self.journal(), self.live()
        excluded = {release_id(live or ""), *journal.voided}
        on_disk = self.on_disk()
        return next((one for one in journal.newest_first() if one in on_disk and release_id(one) not in excluded), None)


def generation(release: str) -> int:
    """The number of a restart in a release's name, 0 for none."""
    return int(release.partition(".")[2] or 0)
