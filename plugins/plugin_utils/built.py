"""Sources that an app's ``build`` has worked on: once per platform, by the host that builds wheels for it.

``.cache/built/<key>-<platform>/`` is the source as the commands have left it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .archives import unpack
from .cache import CACHE, locked, prune, settle
from .sources import SourceError
from .wheelhouse import AlreadyFailed, BuildFailed, this_run

BUILT = CACHE / "built"
KEPT = 5


def place(key: str, platform: str) -> Path:
    """Where a source is once it was built."""
    return BUILT / f"{key[:16]}-{platform.replace('/', '-')}"


def obtain(key: str, platform: str, build: Callable[[Path], None]) -> Path:
    """The folder of a source that was built for a platform: of many hosts that want it at once, one builds.

    :param key: what names the source, the commands and the environment that they have.
    :param build: writes a tar of what the source has become.
    :raises BuildFailed: as ``build`` does; others of this run are told.
    :raises SourceError: what it made can't be part of a release.
    """
    final = place(key, platform)
    failed = BUILT / "locks" / f"{final.name}.failed"
    with locked(BUILT / "locks" / final.name) as aside:
        if not final.is_dir():
            if failed.exists() and failed.read_text().partition("\n")[0] == this_run():
                raise AlreadyFailed(failed.read_text().partition("\n")[2])
            try:
                build(aside / "built.tar")
            except BuildFailed as error:
                failed.write_text(f"{this_run()}\n{error}")
                raise
            failed.unlink(missing_ok=True)
            try:
                unpack(aside / "built.tar", aside / "built")
            except Exception as error:  # whatever its modules raise for what is not, or not quite, a tar
                raise SourceError(f"what build has made can't be unpacked: {error} (at its end)") from error
            settle(aside / "built", final)
        os.utime(final)
    with locked(BUILT / "locks") as aside:
        prune((path for path in BUILT.iterdir() if path.name != "locks"), KEPT, aside)
    return final
