"""Shared code of the modules about apps: arguments, Supervisor, and messages of failures."""

from __future__ import annotations

import os
import xmlrpc.client

from .app import App
from .environments import EnvironmentFailed
from .paths import ReleaseFailed
from .services import supervisor
from .users import UserFailed
from .wheels import WheelFailed

SUPERVISOR_SOCKET = "/run/supervisor.sock"
# The arguments of each module that changes apps; the action plugin adds the holder.
ARGUMENTS = {
    "holder": {"type": "dict", "default": {}},
    "break_holders": {"type": "list", "elements": "str", "default": []},
    "force": {"type": "bool", "default": False},
}
FAILURES = (ReleaseFailed, EnvironmentFailed, WheelFailed, UserFailed, xmlrpc.client.Fault, OSError)


def app_on_host(name: str) -> App:
    """An app on this host.

    :raises ReleaseFailed: a name that no app can have.
    """
    os.umask(0o022)  # a stricter umask of root would lock the app out of its own release
    return App(name, supervisor(SUPERVISOR_SOCKET))


def explain(name: str, error: Exception) -> str:
    """The message of a failure, with the app's name."""
    if isinstance(error, xmlrpc.client.Fault):
        return f"{name}: Supervisor refused ({error.faultString}); see supervisorctl reread"
    if isinstance(error, OSError):
        hint = "; is Supervisor running?" if error.filename == SUPERVISOR_SOCKET else ""
        return f"{name}: {error}{hint}"
    return str(error) if isinstance(error, FAILURES) else f"{name}: {type(error).__name__}: {error}"
