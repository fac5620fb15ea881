"""Sources after an app's ``build``, which runs once per platform, on the host that builds wheels for it.

``.cache/built/<key>-<platform>/`` is the source with what the commands made.
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
    """The folder of a built source."""
    return BUILT / f"{key[:16]}-{platform.replace('/', '-')}"


def obtain(key: str, platform: str, build: Callable[[Path], None]) -> Path:
    """The folder of a source that was built for a platform. If many hosts want it at once, one builds.

    :param key: a hash over the source, the commands and their environment.
    :param build: writes a tar of the built source.
    :raises BuildFailed: the build failed, now or earlier in this run.
    :raises SourceError: the result can't be part of a release.
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
            except Exception as error:  # tarfile and its codecs raise many kinds for a damaged tar
                raise SourceError(f"what build has made can't be unpacked: {error} (at its end)") from error
            settle(aside / "built", final)
        os.utime(final)
    with locked(BUILT / "locks") as aside:
        prune((path for path in BUILT.iterdir() if path.name != "locks"), KEPT, aside)
    return final
