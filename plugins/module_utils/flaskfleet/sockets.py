"""Who listens where, read from /proc (proc(5)), so that a host needs no tool for it."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TCP_LISTEN = "0A"
TCP_IN_USE = {"01", "02"}  # ESTABLISHED, SYN_SENT (net/tcp_states.h); in the others nobody waits for an answer
UNIX_ROW = re.compile(r"[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{4} [0-9A-F]{2} +\d+ ")
UNIX_CONNECTIONS = {"02", "03"}  # SS_CONNECTING: queued; SS_CONNECTED: accepted (linux/net.h)


class Owner(NamedTuple):
    """A process that holds a socket. ``pid`` 0: the process can't be seen (another container)."""

    pid: int
    name: str


def tcp_owners(port: int, proc: Path = Path("/proc")) -> list[Owner]:
    """The processes that listen on a TCP port, on whatever address."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for words in _rows(proc / "net" / table):
            if words[3] == TCP_LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(words[9])
    return _holders(inodes, proc)


def tcp_connections(address: str, ports: Iterable[int], proc: Path = Path("/proc")) -> int:
    """How many connections this host has to ports of another one, those included that it is opening."""
    there = {(remote, port) for remote in _encoded(address) for port in ports}
    found = 0
    for table in ("tcp", "tcp6"):
        for words in _rows(proc / "net" / table):
            remote, _, port = words[2].rpartition(":")
            found += words[3] in TCP_IN_USE and (remote, int(port, 16)) in there
    return found


def _encoded(address: str) -> Iterator[str]:
    """An address as /proc/net/tcp has it, words of 32 bits in the byte order of the host, and as tcp6 has it."""
    packed = ipaddress.ip_address(address).packed
    for octets in (packed, b"\0" * 10 + b"\xff\xff" + packed) if len(packed) == 4 else (packed,):
        words = (octets[start : start + 4] for start in range(0, len(octets), 4))
        yield "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def unix_connections(path: str, proc: Path = Path("/proc")) -> int:
    """How many clients are connected to a unix socket, or wait in its queue.

    The server's end of each has the path that was bound (unix_seq_show in net/unix/af_unix.c). uWSGI's
    own figures can't tell: its ``listen_queue`` is always 0 on unix sockets.
    """
    return sum(words[7:] == [path] and words[5] in UNIX_CONNECTIONS for words in _unix_rows(proc))


def _unix_rows(proc: Path) -> Iterator[list[str]]:
    """The rows of the table of unix sockets; a user may bind one to any name, with line breaks and any bytes in it.

    One by one, for a user may have very many.
    """
    with suppress(FileNotFoundError), (proc / "net" / "unix").open("rb") as table:
        for line in map(os.fsdecode, table):
            if UNIX_ROW.match(line):
                yield line.split()


def _rows(table: Path) -> Iterator[list[str]]:
    with suppress(FileNotFoundError), table.open("rb") as lines:
        next(lines, None)
        for line in lines:
            yield line.decode(errors="surrogateescape").split()


def _link(descriptor: Path) -> str | None:
    with suppress(OSError):  # it was closed while we looked
        return os.readlink(descriptor)
    return None


def _holders(inodes: set[str], proc: Path) -> list[Owner]:
    if not inodes:
        return []
    links = {f"socket:[{inode}]" for inode in inodes}
    owners = set()
    for process in proc.iterdir():
        if not re.fullmatch(r"\d+", process.name):
            continue
        try:
            if any(_link(descriptor) in links for descriptor in (process / "fd").iterdir()):
                owners.add(Owner(int(process.name), (process / "comm").read_text(errors="replace").strip()))
        except OSError:
            continue  # it ended while we looked
    return sorted(owners) or [Owner(0, "a process that cannot be seen from here")]
