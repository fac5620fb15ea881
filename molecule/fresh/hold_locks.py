#!/usr/bin/env python3
"""Holds the locks of apt and dpkg, as a run of apt does, until a log says that another one waits.

hold_locks.py LOG makes the log when it has them.
"""

from __future__ import annotations

import fcntl
import sys
import time
from contextlib import ExitStack
from pathlib import Path

LOCKS = [Path("/var/lib/apt/lists/lock"), Path("/var/lib/dpkg/lock-frontend")]
PATIENCE_SECONDS = 300

log = Path(sys.argv[1])
deadline = time.monotonic() + PATIENCE_SECONDS
with ExitStack() as stack:
    for path in LOCKS:
        fcntl.lockf(stack.enter_context(path.open("w")), fcntl.LOCK_EX)
    log.touch()
    while "waiting for another run of apt" not in log.read_text():
        if time.monotonic() > deadline:
            sys.exit(f"{log}: nobody waited for {LOCKS}")
        time.sleep(0.5)
