"""Listening sockets and connections: those of this process, and a fake /proc for others."""

from __future__ import annotations

import errno
import os
import socket
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet import sockets
from ansible.module_utils.flaskfleet.sockets import Owner, tcp_owners, unix_connections


def listener(family: socket.AddressFamily, address: object) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen()
    return sock


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["v4", "v6"])
def tcp(request: pytest.FixtureRequest):
    """A listening TCP socket of this process."""
    try:
        sock = listener(request.param[0], (request.param[1], 0))
    except OSError as error:
        pytest.skip(f"this machine has no such address: {error}")
    with sock:
        yield sock


@pytest.fixture
def unix(host: Path):
    """A listening unix socket of this process."""
    with listener(socket.AF_UNIX, str(host / "a.sock")) as sock:
        yield sock


def test_a_tcp_listener_is_found_with_its_process(tcp: socket.socket) -> None:
    assert [owner.pid for owner in tcp_owners(tcp.getsockname()[1])] == [os.getpid()]


def test_a_kernel_with_ipv6_has_it(tcp: socket.socket) -> None:
    assert sockets.has_ipv6() or tcp.family == socket.AF_INET


@pytest.mark.parametrize("refused", ["socket", "bind"])
def test_a_kernel_without_ipv6_lacks_it(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    class Lacking(socket.socket):
        def __init__(self, family: socket.AddressFamily) -> None:
            if refused == "socket":
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family)

        def bind(self, _address: object) -> None:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(socket, "socket", Lacking)
    assert not sockets.has_ipv6()


def test_an_owner_has_the_name_of_its_program(tcp: socket.socket) -> None:
    assert tcp_owners(tcp.getsockname()[1])[0].name == Path("/proc/self/comm").read_text().strip()


def test_a_descriptor_that_closes_meanwhile_hides_no_other() -> None:
    """The folder of descriptors itself is one: it has the lowest free number and is closed when it has been listed."""
    with Path(os.devnull).open() as lower, listener(socket.AF_INET, ("127.0.0.1", 0)) as higher:
        assert lower.fileno() < higher.fileno()
        lower.close()
        assert [owner.pid for owner in tcp_owners(higher.getsockname()[1])] == [os.getpid()]


def test_a_closed_tcp_listener_is_not_found(tcp: socket.socket) -> None:
    port = tcp.getsockname()[1]
    tcp.close()
    assert tcp_owners(port) == []


def test_a_port_that_is_connected_to_is_no_listener(tcp: socket.socket) -> None:
    with socket.socket(tcp.family) as client:
        client.connect(tcp.getsockname())
        assert tcp_owners(client.getsockname()[1]) == []


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"a\nb", b"a\n0 1 2 x 4 5 6 %s", b"a b", "\x85\u2028".encode()], ids=repr
)
def test_a_socket_of_any_name_is_no_client(host: Path, unix: socket.socket, name: bytes) -> None:
    """An app's user may bind one to whatever name it likes, and all users' are in one table."""
    path = unix.getsockname()
    with socket.socket(socket.AF_UNIX) as odd:
        odd.bind(os.fsencode(host) + b"/" + name.replace(b"%s", path.encode().replace(b"/", b"_")))
        odd.listen()
        assert unix_connections(path) == 0


def test_a_name_makes_no_other_socket(unix: socket.socket) -> None:
    """In the table of /proc a line break is shown as it is, and what follows looks like another socket's line."""
    path = unix.getsockname()
    rows = ("00010000 0001 01 7", "00000000 0001 03 8")
    with ExitStack() as stack:
        for row in rows:
            forger = stack.enter_context(socket.socket(socket.AF_UNIX))
            forger.bind(f"\0x\n0: 00000002 00000000 {row} {path}")
        assert Path("/proc/net/unix").read_text().count(path) == 3
        assert unix_connections(path) == 0


def test_without_sock_diag_clients_are_counted_by_name(unix: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SOCK_DIAG_BY_FAMILY", 99)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(unix.getsockname())
        assert unix_connections(unix.getsockname()) == 1


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with listeners on port 80 (inode 11), port 443 (12) and /run/a.sock (13), and no process.

    To /run/a.sock two clients are connected, the second still in its queue; a third is on its way out.
    """
    (tmp_path / "net").mkdir()
    row = " 0: 00000000:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"
    (tmp_path / "net" / "tcp").write_text(
        "  sl  local_address rem_address   st\n"
        + row.format(port=80, state="0A", inode=11)
        + row.format(port=443, state="0A", inode=12)
        + row.format(port=80, state="01", inode=99)
    )
    (tmp_path / "net" / "unix").write_text(
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "ffff8: 00000002 00000000 00010000 0001 01 13 /run/a.sock\n"
        "ffff9: 00000003 00000000 00000000 0001 03 98 /run/a.sock\n"
        "ffffa: 00000002 00000000 00010000 0001 01 97\n"
        "ffffb: 00000002 00000000 00000000 0001 02 0 /run/a.sock\n"
        "ffffc: 00000003 00000000 00000000 0001 03 96 /run/a.socket\n"
        "ffffd: 00000003 00000000 00000000 0001 03 95\n"
        "ffffe: 00000002 00000000 00000000 0001 04 94 /run/a.sock\n"
    )
    return tmp_path


def process(proc: Path, pid: int, name: str, *inodes: int) -> None:
    (proc / str(pid) / "fd").mkdir(parents=True)
    (proc / str(pid) / "comm").write_text(f"{name}\n")
    for number, inode in enumerate(inodes):
        (proc / str(pid) / "fd" / str(number)).symlink_to(f"socket:[{inode}]")


def test_a_process_that_cannot_be_seen_has_the_pid_0(proc: Path) -> None:
    process(proc, 7, "other", 12)
    assert [owner.pid for owner in tcp_owners(80, proc)] == [0]


def test_every_process_that_holds_the_socket_is_found_once(proc: Path) -> None:
    process(proc, 9, "nginx", 1, 11, 11)
    process(proc, 8, "nginx", 11)
    process(proc, 7, "other", 12, 99, 111)
    assert tcp_owners(80, proc) == [Owner(8, "nginx"), Owner(9, "nginx")]


def test_a_process_that_ends_meanwhile_is_left_out(proc: Path) -> None:
    (proc / "7").mkdir()
    process(proc, 8, "nginx", 11)
    assert tcp_owners(80, proc) == [Owner(8, "nginx")]


def test_a_port_without_a_listener_has_no_owner(proc: Path) -> None:
    assert tcp_owners(8080, proc) == []


def test_a_host_without_ipv6_has_owners(proc: Path) -> None:
    assert not (proc / "net" / "tcp6").exists()
    process(proc, 8, "nginx", 11)
    assert tcp_owners(80, proc) == [Owner(8, "nginx")]


# connections


@pytest.mark.parametrize(("path", "clients"), [("/run/a.sock", 2), ("/run/a.socket", 1), ("/run/a", 0), ("", 0)])
def test_clients_are_those_that_were_accepted_or_wait_in_the_queue(proc: Path, path: str, clients: int) -> None:
    """Neither the listening socket itself is, nor the clients' own ends, which have no path."""
    assert sockets._count_clients_by_name(path, proc) == clients


def test_a_table_of_any_length_takes_little_memory(proc: Path) -> None:
    """A user may have sockets without number."""
    table = proc / "net" / "unix"
    row = f"ffff8: 00000003 00000000 00000000 0001 03 98 /tmp/{'x' * 90}\n"
    table.write_text(table.read_text() + row * 50_000)
    tracemalloc.start()
    try:
        assert sockets._count_clients_by_name("/run/a.sock", proc) == 2
        assert tracemalloc.get_traced_memory()[1] < table.stat().st_size / 10
    finally:
        tracemalloc.stop()


def test_a_host_that_shows_no_sockets_has_no_clients(tmp_path: Path) -> None:
    assert sockets._count_clients_by_name("/run/a.sock", tmp_path) == 0


def test_a_client_counts_from_its_connect_until_both_are_done(unix: socket.socket) -> None:
    path = unix.getsockname()
    seen = [unix_connections(path)]
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for client in (first, second):
            client.connect(path)
            seen.append(unix_connections(path))
        with unix.accept()[0]:
            seen.append(unix_connections(path))
        seen.append(unix_connections(path))
        with unix.accept()[0]:
            second.close()
            seen.append(unix_connections(path))
    assert (seen, unix_connections(path)) == ([0, 1, 2, 2, 1, 1], 0)
