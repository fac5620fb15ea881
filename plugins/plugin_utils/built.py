"""Sources that an app's ``build`` has worked on: once per platform, by the host that builds wheels for it.

``.cache/built/<key>-<platform>/`` is the source as the commands have left it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .sources import CACHE, SourceError, locked, prune, settle, unpack

BUILT = CACHE / "built"
KEPT = 5


def place(key: str, platform: str) -> Path:
    """Where a source is once it was built."""
    return BUILT / f"{key[:16]}-{platform.replace('/', '-')}"


def obtain(key: str, platform: str, build: Callable[[Path], None]) -> Path:
    """The folder of a source that was built for a platform: of many hosts that want it at once, one builds.

    :param key: what names the source, the commands and the environment that they have.
    :param build: writes a tar of what the source has become.
    :raises SourceError: that can't be part of a release.
    """
    final = place(key, platform)
    with locked(BUILT / "locks" / final.name) as aside:
        if not final.is_dir():
            build(aside / "built.tar")
            try:
                unpack(aside / "built.tar", aside / "built")
            except SourceError as error:
                raise SourceError(f"what build has made {error}") from error
            settle(aside / "built", final)
        os.utime(final)
        prune((path for path in BUILT.iterdir() if path.name != "locks"), KEPT, aside)
    return final
