"""Listening sockets and connections, read from the kernel (sock_diag(7), proc(5)), so that a host needs no tool."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TCP_LISTEN = "0A"
TCP_IN_USE = {"01", "02"}  # ESTABLISHED, SYN_SENT (net/tcp_states.h); in other states no client waits for an answer
UNIX_ROW = re.compile(r"[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{4} [0-9A-F]{2} +\d+ ")
UNIX_CONNECTIONS = {"02", "03"}  # SS_CONNECTING: queued; SS_CONNECTED: accepted (linux/net.h)
# linux/sock_diag.h, linux/netlink.h, linux/unix_diag.h
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, DONE, FAILED = 4, 20, 0x301, 3, 2
UDIAG_SHOW_VFS, UDIAG_SHOW_RQLEN, UNIX_DIAG_VFS = 2, 16, 1
ESTABLISHED, LISTEN = 1, 10  # also of unix sockets
PROC = Path("/proc")


class Owner(NamedTuple):
    """A process that holds a socket. ``pid`` 0: the process can't be seen (another container)."""

    pid: int
    name: str


def has_ipv6() -> bool:
    """Whether the kernel has IPv6: ``ipv6.disable=1``, for one, takes it away, and nginx could not listen there."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        return True
    return False


def tcp_owners(port: int, proc: Path = PROC) -> list[Owner]:
    """The processes that listen on a TCP port, on any address."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for words in _read_rows(proc / "net" / table):
            if words[3] == TCP_LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(words[9])
    return _owners(inodes, proc)


def tcp_connections(address: str, ports: Iterable[int], proc: Path = PROC) -> int:
    """How many connections this host has, or is opening, to ports of another host."""
    wanted = {(remote, port) for remote in _proc_addresses(address) for port in ports}
    found = 0
    for table in ("tcp", "tcp6"):
        for words in _read_rows(proc / "net" / table):
            remote, _, port = words[2].rpartition(":")
            found += words[3] in TCP_IN_USE and (remote, int(port, 16)) in wanted
    return found


def _proc_addresses(address: str) -> Iterator[str]:
    """An address in the notations of /proc/net/tcp and tcp6: words of 32 bits in the host's byte order."""
    packed = ipaddress.ip_address(address).packed
    for octets in (packed, b"\0" * 10 + b"\xff\xff" + packed) if len(packed) == 4 else (packed,):
        words = (octets[start : start + 4] for start in range(0, len(octets), 4))
        yield "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def unix_connections(path: str) -> int:
    """How many clients are connected to a unix socket, or wait in its queue.

    uWSGI's stats can't be used, because their ``listen_queue`` is always 0 for unix sockets.
    """
    try:
        return _count_clients_by_file(path)
    except OSError:
        return _count_clients_by_name(path)


def _count_clients_by_file(path: str) -> int:
    """Count the clients by the inode and device of the socket's file.

    Names can't be trusted: root of another namespace may bind to any name, and a name with line breaks looks like
    further lines of /proc/net/unix.

    :raises OSError: the kernel does not answer, or knows no listening socket of that file. On Btrfs, for example,
        stat(2) returns another device than the kernel uses.
    """
    status = os.lstat(path)
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)  # the kernel's encoding of a device number
    file = (UNIX_DIAG_VFS, status.st_ino & 0xFFFFFFFF, device)
    found, listens = 0, False
    header = struct.pack("=IHHII", 40, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0)
    states, shown = 1 << ESTABLISHED | 1 << LISTEN, UDIAG_SHOW_VFS | UDIAG_SHOW_RQLEN
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(5)
        kernel.send(header + struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, states, 0, shown, 0, 0))
        while True:
            answer = kernel.recv(65536)
            while answer:
                size, kind = struct.unpack_from("=IH", answer)
                if kind == DONE and listens:
                    return found
                if kind == DONE:
                    raise FileNotFoundError(errno.ENOENT, "no socket listens there", path)
                if kind == FAILED:
                    raise OSError(-struct.unpack_from("=i", answer, 16)[0], "sock_diag")
                # The requested attributes: size, type, inode and device; then the queue of a listening socket.
                if size >= 56 and struct.unpack_from("=HHII", answer, 32)[1:] == file:
                    is_listening = struct.unpack_from("=xxB", answer, 16)[0] == LISTEN
                    listens |= is_listening
                    found += struct.unpack_from("=I", answer, 48)[0] if is_listening else 1
                answer = answer[(size + 3) & ~3 :]


def _count_clients_by_name(path: str, proc: Path = PROC) -> int:
    """Count the clients by the bound name, which the server's end of each connection has (unix_seq_show in af_unix.c).

    A user may bind a socket to any name, also one with line breaks.
    """
    found = 0
    with suppress(FileNotFoundError), (proc / "net" / "unix").open("rb") as table:
        for line in map(os.fsdecode, table):  # not all at once: a user may open very many
            words = line.split()
            found += bool(UNIX_ROW.match(line)) and words[7:] == [path] and words[5] in UNIX_CONNECTIONS
    return found


def _read_rows(table: Path) -> Iterator[list[str]]:
    with suppress(FileNotFoundError), table.open("rb") as lines:
        next(lines, None)
        for line in lines:
            yield line.decode(errors="surrogateescape").split()


def _read_link(descriptor: Path) -> str | None:
    with suppress(OSError):  # it was closed meanwhile
        return os.readlink(descriptor)
    return None


def _owners(inodes: set[str], proc: Path) -> list[Owner]:
    if not inodes:
        return []
    links = {f"socket:[{inode}]" for inode in inodes}
    owners = set()
    for process in proc.iterdir():
        if not re.fullmatch(r"\d+", process.name):
            continue
        try:
            if any(_read_link(descriptor) in links for descriptor in (process / "fd").iterdir()):
                owners.add(Owner(int(process.name), (process / "comm").read_text(errors="replace").strip()))
        except OSError:
            continue  # it ended meanwhile
    return sorted(owners) or [Owner(0, "a process that cannot be seen from here")]
