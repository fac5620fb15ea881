"""Sandboxes of the current user, because only root may change users. No process is killed."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet import sandbox
from ansible.module_utils.flaskfleet.sandbox import Sandbox

BECOME, END = Sandbox._setpriv, Sandbox.kill_processes  # as they are
OWNER = pwd.getpwuid(os.getuid()).pw_name


def stay_who_we_are(patch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """Put sandboxes below a folder; the users whose processes would be killed."""
    ended: list[str] = []
    patch.setattr(sandbox, "SANDBOXES", folder)
    patch.setattr(sandbox, "_create_user", lambda purpose: OWNER)
    patch.setattr(Sandbox, "_setpriv", lambda box: ["setpriv", "--no-new-privs"])
    patch.setattr(Sandbox, "kill_processes", lambda box: ended.append(box.user))
    return ended
