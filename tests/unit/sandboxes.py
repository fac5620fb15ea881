"""Sandboxes of the current user, because only root may become another one; no test kills a process."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet import sandbox
from ansible.module_utils.flaskfleet.sandbox import Sandbox

BECOME, END = Sandbox._become, Sandbox._end  # as they are
OWNER = pwd.getpwuid(os.getuid()).pw_name


def stay_who_we_are(patch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """Have sandboxes below a folder; whose processes were to be killed."""
    ended: list[str] = []
    patch.setattr(sandbox, "SANDBOXES", folder)
    patch.setattr(sandbox, "_user", lambda purpose: OWNER)
    patch.setattr(Sandbox, "_become", lambda box: ["setpriv", "--no-new-privs"])
    patch.setattr(Sandbox, "_end", lambda box: ended.append(box.user))
    return ended
