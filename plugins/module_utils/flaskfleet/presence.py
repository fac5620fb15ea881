"""Creating an app on a host and removing it: its journal, its user, its files."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress

from . import http_router
from .app import App
from .files import chown_tree, remove_trees
from .journal import now
from .paths import ReleaseFailed
from .users import create_user, end_processes, find_user, remove_user, run_as


def create(app: App) -> bool:
    """Write the app's journal, then create its user; whether the user is new.

    :raises ReleaseFailed: a user of that name exists and was not created for the app.
    """
    journal, user = app.paths.journal(), find_user(app.name)
    if user and not (journal.user and user.pw_dir == app.paths.user_home):
        raise ReleaseFailed(
            f"{app.name}: there is a user {app.name} already, and {app.paths.journal_file} does not say that it is "
            "the app's; give the app another name"
        )
    if not journal.user:
        journal.user = True
        journal.save()
    if not user:
        create_user(app.name, app.paths.user_home)
    return not user


def is_present(app: App, purge: bool) -> bool:
    """Whether the app's journal says that there is something to remove.

    :raises ReleaseFailed: there is no journal, but a user or folder of that name, which may belong to another program.
    """
    if app.paths.journal_file.exists():
        return purge or app.paths.journal().user
    foreign = [str(path) for path in (app.paths.home, app.paths.logs) if os.path.lexists(path)]
    foreign += [f"the user {app.name}"] if find_user(app.name) else []
    if foreign:
        raise ReleaseFailed(
            f"{app.name}: this host has no record of such an app ({app.paths.journal_file}), so "
            f"{', '.join(foreign)} may be another program's. Nothing was changed; remove by hand what is the app's"
        )
    return False


def remove(app: App, purge: bool, by: str = "") -> bool:
    """Remove an app, and its user if that was created for the app; whether there was something to remove.

    ``shared``, logs and the journal stay unless ``purge``.

    :raises ReleaseFailed: see :func:`is_present`.
    """
    if not is_present(app, purge):
        return False
    _stop_programs(app)
    journal = app.paths.journal()
    user = find_user(app.name)
    user = user if user and journal.user and user.pw_dir == app.paths.user_home else None
    if user:
        _end_user(app, user)
    _remove_files(app)
    app.rollout_lock.release()
    if purge:
        remove_trees(app.paths.home, app.paths.logs)
    if user:
        remove_user(app.name)
    if purge:
        for path in (app.paths.journal_file, app.paths.step_file):
            path.unlink(missing_ok=True)
        return True
    journal.user = False
    journal.history.append({"release": None, "since": now(), "by": by, "what": "removed", "source": None})
    journal.save()
    return True


def _stop_programs(app: App) -> None:
    """Stop all programs of the app, and remove them from Supervisor."""
    releases = app.programs.registered()
    http_router.configure(app, None, None)
    further = app.programs.known_further()
    within = max(map(app.programs.further_stop_seconds, app.paths.on_disk()), default=0)
    for release in app.programs.configured():
        (app.paths.conf_d / f"{app.programs.name(release)}.programs.conf").unlink(missing_ok=True)
    app.supervisor.stop(further, within)
    app.programs.drain_and_stop(releases)


def _end_user(app: App, user: pwd.struct_passwd) -> None:
    """End all processes of the app's user, and remove its files from folders where any user may write.

    The next user that gets its number would own these files.
    """
    end_processes(user.pw_uid)
    argv = ["find", *map(str, app.paths.shared_tmp), "-xdev", "-uid", str(user.pw_uid), "-delete"]
    run_as(user.pw_uid, user.pw_gid, argv)


def _remove_files(app: App) -> None:
    """Remove the releases; shared folders, media and logs stay and become root's."""
    home = app.paths.home
    for path in (home / "shared", home / "media", app.paths.logs):
        if path.exists():
            chown_tree(path, 0, 0)  # otherwise the next user with this number would own it
    for name in ("current", "next", "previous"):
        (home / name).unlink(missing_ok=True)
    remove_trees(home / ".releases")
    with suppress(FileNotFoundError):
        (home / "releases").rename(home / ".releases")  # a half-removed release must not count as one
    remove_trees(*(home / folder for folder in (".releases", "venvs", "secrets")))
    app.paths.singletons_file.unlink(missing_ok=True)
