"""Hosts that a balancer sends nothing to: its nginx looks for their flags at each request, so that nothing is reloaded.

``/var/lib/flaskfleet/drain/<host>``::

    {"host", "kind", "reason", "by", "process", "since"}    since in epoch seconds; kind is one of KINDS
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from .files import fsync_path, lock, read_json, write_json
from .sockets import tcp_connections

# Why a host is out: for work that puts it back by itself, because its release is not the fleet's, because somebody
# wants it. A later one outweighs an earlier one: who has taken a host out for good is not overruled by a reload's end.
KINDS = ("work", "disagrees", "drain")
MOST_OUT = 2  # nginx has upstreams without one and without two hosts, see roles/nginx
PATIENCE = 30  # seconds, with another one who takes hosts out
QUIET_LOOKS = 3  # at the connections, before nobody can be in the middle of opening one
LOOK_SECONDS = 0.2
ANSWER_SECONDS = 5  # who takes longer does not answer
Flag = dict[str, Any]
# server_name; path, method, headers and status as in an app's health; servers that have it, address:port by name
Check = dict[str, Any]


class Refused(Exception):
    """What was asked for would harm; the message says why, and what to do."""


class Drains:
    """The flags on this balancer. ``hosts`` are all that it sends to, ``root`` is / but in tests."""

    def __init__(self, hosts: Iterable[str], root: Path = Path("/")) -> None:
        self.hosts = list(hosts)
        self.folder = root / "var/lib/flaskfleet/drain"
        self.configured = root / "var/lib/flaskfleet/trees/nginx/manifest.json"

    def is_balancer(self) -> bool:
        """Whether this host's nginx was ever configured."""
        return self.configured.exists()

    def flags(self) -> dict[str, Flag]:
        """Who is out. A flag of a host that the balancer does not know any more counts for nothing."""
        found = {host: read_json(self.folder / host) for host in self.hosts}
        return {host: flag for host, flag in found.items() if flag}

    def take_out(self, host: str, checks: Iterable[Check] = (), check_mode: bool = False, **why: str) -> bool:
        """Take a host out; whether that is new. Where it is out for a lesser reason, it is out for this one now.

        :param checks: what another host has to answer well, unless this one does not either. ``why``: ``kind``,
            ``reason``, ``by`` and ``process`` of its flag.
        :raises Refused: nobody would be left, or more were out than nginx has upstreams for.
        """
        if host not in self.hosts:
            raise Refused(f"{host} is no app server; there are {', '.join(self.hosts)}")
        with self._lock(check_mode):
            flags = self.flags()
            mine = flags.pop(host, None)
            if mine and KINDS.index(mine["kind"]) >= KINDS.index(why["kind"]):
                return False
            if not mine:
                self._allow(host, flags)
                self._ask_others(host, flags, checks)
            if not check_mode:
                write_json(self.folder / host, {"host": host, **why, "since": int(time.time())})
            return True

    def _allow(self, host: str, flags: dict[str, Flag]) -> None:
        left = len(self.hosts) - len(flags) - 1
        if left < 1:
            problem = "nobody would be left to answer"
        elif len(flags) >= MOST_OUT:
            problem = f"more than {MOST_OUT} hosts would be out"
        else:
            return
        words = "; ".join(map(described, flags.values())) or f"{host} is the only app server"
        raise Refused(f"{host} can't be taken out, {problem}: {words}. Put one back first: playbooks/undrain.yml")

    def _ask_others(self, host: str, flags: dict[str, Flag], checks: Iterable[Check]) -> None:
        for check in (check for check in checks if host in check["servers"]):
            left = {name: where for name, where in check["servers"].items() if name != host and name not in flags}
            told = {}
            for name, where in left.items():
                told[name] = _status_at(where, check)
                if told[name] == str(check["status"]):
                    break
            else:
                if _status_at(check["servers"][host], check) == str(check["status"]):
                    others = (
                        ", ".join(f"{name} with {words}" for name, words in told.items()) or "it is on no other host"
                    )
                    raise Refused(
                        f"{host} can't be taken out, it alone answers {check['server_name']}{check['path']} with "
                        f"{check['status']}: {others}. Nothing was changed"
                    )

    def put_in(self, host: str, kind: str | None, check_mode: bool = False) -> Flag | None:
        """Let a host in that is out for a reason of this kind, or for whatever reason; its flag, None if there is none.

        :returns: what has been removed.
        """
        with self._lock(check_mode):
            flag = read_json(self.folder / host)
            if not flag or kind not in (None, flag["kind"]):
                return None
            if not check_mode:
                self._remove(host)
            return flag

    def put_back(self, flag: Flag) -> None:
        """Undo :meth:`put_in`."""
        write_json(self.folder / flag["host"], flag)

    def forget(self, check_mode: bool = False) -> list[str]:
        """Remove the flags of hosts that the balancer does not know any more; their names."""
        gone = sorted({path.name for path in self.folder.glob("[!.]*")} - set(self.hosts))
        for host in [] if check_mode else gone:
            self._remove(host)
        return gone

    def learn(self, elsewhere: Iterable[Flag], check_mode: bool = False) -> list[str]:
        """On a balancer that never took anybody out, take out whom others do; their names."""
        if self.folder.exists():
            return []
        flags = {flag["host"]: flag for flag in elsewhere if flag["host"] in self.hosts}
        with self._lock(check_mode):
            for host, flag in {} if check_mode else flags.items():
                write_json(self.folder / host, flag)
        return sorted(flags)

    def _remove(self, host: str) -> None:
        (self.folder / host).unlink()
        fsync_path(self.folder)

    def _lock(self, check_mode: bool) -> AbstractContextManager[None]:
        if check_mode:
            return nullcontext()
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.folder.parent):
            folder.chmod(0o755)  # whatever the umask: nginx's workers look for flags there
        return lock(self.folder.with_suffix(".lock"), PATIENCE)


def described(flag: Flag) -> str:
    """A flag in words.

    >>> described({"host": "app1", "kind": "drain", "reason": "a new disk", "by": "ann@box", "since": 0})
    'app1 is out since 1970-01-01T00:00:00Z, by ann@box: a new disk'
    """
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(flag["since"]))
    return f"{flag['host']} is out since {since}, by {flag['by']}: {flag['reason']}"


def await_idle(address: str, ports: Iterable[int], timeout: float, proc: Path = Path("/proc")) -> int:
    """Wait until this host has no connection to ports of another one; how many are left after ``timeout`` seconds.

    nginx closes those that nobody uses by itself, see nginx_upstream_idle_seconds.
    """
    resolved, wanted = socket.gethostbyname(address), set(ports)
    end, quiet = time.monotonic() + timeout, 0
    while True:
        left = tcp_connections(resolved, wanted, proc)
        quiet = 0 if left else quiet + 1
        if quiet >= QUIET_LOOKS or (left and time.monotonic() > end):
            return left
        time.sleep(LOOK_SECONDS)


def status(address: str, port: int, check: Check, timeout: float = 10) -> str:
    """What a site answers: ``200``, another status, or why there is no answer, in words."""
    headers = {"Host": check["server_name"], "User-Agent": "flaskfleet", **check["headers"]}
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request(check["method"], check["path"], headers=headers)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def _status_at(where: str, check: Check) -> str:
    """What a server of an app answers; ``where`` is its address and port."""
    address, _, port = where.rpartition(":")
    return status(address, int(port), check, ANSWER_SECONDS)


def await_answer(address: str, port: int, checks: Iterable[Check], timeout: float) -> str:
    """Wait until each check is answered with its status; what one answered in the end, or nothing.

    :param timeout: seconds for all of them.
    """
    end = time.monotonic() + timeout
    for check in checks:
        while (told := status(address, port, check)) != str(check["status"]):
            if time.monotonic() > end:
                return f"{check['server_name']}{check['path']} is answered with {told}"
            time.sleep(LOOK_SECONDS)
    return ""


def let_in(
    drains: Drains, host: str, kind: str | None, there: tuple[str, int], here: int, checks: list[Check],
    timeout: float, check_mode: bool = False,
) -> bool:  # fmt: skip
    """Put a host in once it answers this balancer, and see that all is well with it; whether it was out.

    :param there: the host's address and port; ``here``: the balancer's own port.
    :raises Refused: it does not answer, or clients would notice; it is out still.
    """
    flag = drains.put_in(host, kind, check_mode=True)
    if not flag or check_mode:
        return bool(flag)
    if problem := await_answer(*there, checks, timeout):
        raise Refused(f"{host} stays out: asked directly, {problem}, after {timeout:g} s")

    def through(check: Check) -> str:
        """What clients of the balancer get that is not the check's status; the hosts answer by turns."""
        told = [status("127.0.0.1", here, check) for _ in drains.hosts]
        return next((one for one in told if one != str(check["status"])), "")

    sound = [check for check in checks if not through(check)]  # what others answer badly is not its fault
    drains.put_in(host, kind)
    for check in sound:
        if told := through(check):
            drains.put_back(flag)
            words = f"asked through the balancer, {check['server_name']}{check['path']} is answered with {told}"
            raise Refused(f"{host} is out again: {words}")
    return True
