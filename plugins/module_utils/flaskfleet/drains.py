"""Drained hosts of a load balancer. Its nginx looks for their flag files at each request, so nothing is reloaded.

``/var/lib/flaskfleet/drain/<host>``::

    {"host", "kind", "reason", "by", "process", "since"}    since in epoch seconds; kind is one of KINDS
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .files import fsync_path, lock, read_json, write_json
from .sockets import tcp_connections

# What drained the host: a run that undrains it itself, a failed rollout, a person. A later kind outweighs an earlier
# one, so that the end of a reload does not undrain a host that a person has drained.
KINDS = ("run", "quarantine", "manual")
OLD_KINDS = {"work": "run", "disagrees": "quarantine", "drain": "manual"}  # in flag files of earlier versions
MAX_DRAINED = 2  # nginx has upstreams without one and without two hosts, see roles/nginx
LOCK_SECONDS = 30  # to wait for another process that drains or undrains
IDLE_POLLS = 3  # without a connection in a row, because nginx may be opening one meanwhile
POLL_SECONDS = 0.2
ANSWER_SECONDS = 5  # a server that takes longer does not answer
Flag = dict[str, Any]
# server_name, as in a URL; path, method, headers and status as in an app's health; servers: address:port by name
Check = dict[str, Any]


class Refused(Exception):
    """The drain or undrain would harm clients; the message says why, and what to do."""


class Drains:
    """The flag files on this load balancer. ``hosts`` are all its app servers, ``root`` is not / in tests."""

    def __init__(self, hosts: Iterable[str], root: Path = Path("/")) -> None:
        self.hosts = list(hosts)
        self.folder = root / "var/lib/flaskfleet/drain"
        self.configured = root / "var/lib/flaskfleet/trees/nginx/manifest.json"

    def is_balancer(self) -> bool:
        """Whether this host's nginx was ever configured."""
        return self.configured.exists()

    def flags(self) -> dict[str, Flag]:
        """The drained hosts. A flag file of a host that is no app server of this load balancer does not count."""
        found = {host: self._read_flag(host) for host in self.hosts}
        return {host: flag for host, flag in found.items() if flag}

    def drain(self, host: str, checks: Iterable[Check] = (), check_mode: bool = False, **fields: str) -> bool:
        """Drain a host. A host that is drained for a lesser kind gets the new flag.

        :param checks: another host must pass each of them, unless ``host`` does not pass it either.
        :param fields: ``kind``, ``reason``, ``by`` and ``process`` of the flag.
        :returns: whether the flag is new.
        :raises Refused: no host would be left, or nginx has no upstream without that many hosts.
        """
        if host not in self.hosts:
            raise Refused(f"can't drain {host}: it is no app server. The app servers are {', '.join(self.hosts)}")
        with self._lock(check_mode):
            flags = self.flags()
            flag = flags.pop(host, None)
            if flag and KINDS.index(flag["kind"]) >= KINDS.index(fields["kind"]):
                return False
            if not flag:
                self._check_number(host, flags)
                for check in checks:
                    self._check_other_servers(host, flags, check)
            if not check_mode:
                write_json(self.folder / host, {"host": host, **fields, "since": int(time.time())})
            return True

    def _check_number(self, host: str, flags: dict[str, Flag]) -> None:
        """Raise Refused if too few hosts would stay undrained. ``flags`` has the other drained hosts."""
        if len(self.hosts) - len(flags) - 1 < 1:
            problem = "no app server would be left"
        elif len(flags) >= MAX_DRAINED:
            problem = f"more than {MAX_DRAINED} app servers would be drained"
        else:
            return
        if not flags:
            raise Refused(f"can't drain {host}: {problem}. {host} is the only app server; add another one first")
        drained = "; ".join(map(describe, flags.values()))
        raise Refused(
            f"can't drain {host}: {problem}. {drained}. Undrain one first: playbooks/undrain.yml -e host=<name>"
        )

    def _check_other_servers(self, host: str, flags: dict[str, Flag], check: Check) -> None:
        """Raise Refused if ``host`` is the only undrained server that passes the check."""
        servers, wanted = check["servers"], str(check["status"])
        if host not in servers:
            return
        answers: dict[str, str] = {}
        for name, address in servers.items():
            if name != host and name not in flags:
                answers[name] = _status_at(address, check)
                if answers[name] == wanted:
                    return
        if _status_at(servers[host], check) != wanted:
            return  # the drain makes nothing worse
        others = ", ".join(f"{name} with {answer}" for name, answer in answers.items())
        raise Refused(
            f"can't drain {host}: only {host} answers {check['server_name']}{check['path']} with {wanted}, "
            f"{others or 'no other undrained app server has it'}. Nothing was changed. Repair or deploy the app on "
            "another app server first"
        )

    def undrain(self, host: str, kind: str | None, check_mode: bool = False) -> Flag | None:
        """Remove the flag of a host if it is of this kind, or if the kind is None.

        :returns: the flag that was removed, None if there was none.
        """
        with self._lock(check_mode):
            flag = self._read_flag(host)
            if not flag or kind not in (None, flag["kind"]):
                return None
            if not check_mode:
                self._remove_flag(host)
            return flag

    def restore(self, flag: Flag) -> None:
        """Drain a host again with the flag that :meth:`undrain` returned."""
        write_json(self.folder / flag["host"], flag)

    def remove_unknown(self, check_mode: bool = False) -> list[str]:
        """Remove the flags of hosts that are no app servers of this load balancer any more; the hosts' names."""
        unknown = sorted({path.name for path in self.folder.glob("[!.]*")} - set(self.hosts))
        for host in [] if check_mode else unknown:
            self._remove_flag(host)
        return unknown

    def adopt(self, flags: Iterable[Flag], check_mode: bool = False) -> list[str]:
        """Copy the flags of other load balancers if this one never had any; the hosts' names."""
        if self.folder.exists():
            return []
        adopted = {flag["host"]: flag for flag in flags if flag["host"] in self.hosts}
        with self._lock(check_mode):
            for host, flag in {} if check_mode else adopted.items():
                write_json(self.folder / host, flag)
        return sorted(adopted)

    def convert(self, check_mode: bool = False) -> list[str]:
        """Rewrite flags of earlier versions, whose kinds have other names; the hosts' names."""
        old = [host for host in self.hosts if (read_json(self.folder / host) or {}).get("kind") in OLD_KINDS]
        if old and not check_mode:
            with self._lock(check_mode):
                for host in old:
                    if flag := self._read_flag(host):  # it may have been undrained meanwhile
                        write_json(self.folder / host, flag)
        return sorted(old)

    def _read_flag(self, host: str) -> Flag | None:
        flag = read_json(self.folder / host)
        return {**flag, "kind": OLD_KINDS.get(flag["kind"], flag["kind"])} if flag else None

    def _remove_flag(self, host: str) -> None:
        (self.folder / host).unlink()
        fsync_path(self.folder)

    def _lock(self, check_mode: bool) -> AbstractContextManager[None]:
        if check_mode:
            return nullcontext()
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.folder.parent):
            folder.chmod(0o755)  # nginx's workers look for flags there, whatever the umask is
        return lock(self.folder.with_suffix(".lock"), LOCK_SECONDS)


def describe(flag: Flag) -> str:
    """A flag in words.

    >>> describe({"host": "app1", "kind": "manual", "reason": "a new disk", "by": "ann@box", "since": 0})
    'app1 is drained since 1970-01-01T00:00:00Z, by ann@box: a new disk'
    """
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(flag["since"]))
    return f"{flag['host']} is drained since {since}, by {flag['by']}: {flag['reason']}"


def await_idle(address: str, ports: Iterable[int], timeout: float, proc: Path = Path("/proc")) -> int:
    """Wait until this host has no connection to ports of another one; how many are left after ``timeout`` seconds.

    nginx closes idle connections by itself, see nginx_upstream_idle_seconds.
    """
    resolved, wanted = {str(info[4][0]) for info in socket.getaddrinfo(address, None)}, set(ports)
    end, idle_polls = time.monotonic() + timeout, 0
    while True:
        left = sum(tcp_connections(one, wanted, proc) for one in resolved)
        idle_polls = 0 if left else idle_polls + 1
        if idle_polls >= IDLE_POLLS or (left and time.monotonic() > end):
            return left
        time.sleep(POLL_SECONDS)


class _TLSConnection(http.client.HTTPConnection):
    """A connection to an address that asks for a name. Whose certificate answers there is not its business."""

    def __init__(self, address: str, port: int, server_name: str, timeout: float) -> None:
        super().__init__(address, port, timeout=timeout)
        self._server_name = server_name
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._server_name)


def status(address: str, port: int, check: Check, timeout: float = 10) -> str:
    """The status of a site's answer, like ``200``, or why there is no answer, in words.

    A site that is served over https sends there who asks by http: what counts is the answer there.
    """
    headers = {"Host": check["server_name"], "User-Agent": "flaskfleet", **check["headers"]}
    answer, location = _ask(http.client.HTTPConnection(address, port, timeout=timeout), check, headers)
    target, server_name = urlsplit(location), check["server_name"].strip("[]")
    is_sent = (target.scheme, target.hostname) == ("https", server_name.lower())
    if answer == str(check["status"]) or not is_sent:
        return answer
    return _ask(_TLSConnection(address, target.port or 443, server_name, timeout), check, headers)[0]


def _ask(connection: http.client.HTTPConnection, check: Check, headers: dict[str, str]) -> tuple[str, str]:
    """The status of an answer, or why there is none, and the address that it leads to."""
    try:
        connection.request(check["method"], check["path"], headers=headers)
        answer = connection.getresponse()
        return str(answer.status), answer.headers["Location"] or ""
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__, ""
    finally:
        connection.close()


def _status_at(server: str, check: Check) -> str:
    """The status of a server's answer; ``server`` is its address and port."""
    address, _, port = server.rpartition(":")
    return status(address.strip("[]"), int(port), check, ANSWER_SECONDS)


def await_answer(address: str, port: int, checks: Iterable[Check], timeout: float) -> str:
    """Wait until each check is passed; the first that is not, with its answer, in words. Empty if all are.

    :param timeout: seconds for all of them.
    """
    end = time.monotonic() + timeout
    for check in checks:
        while (answer := status(address, port, check)) != str(check["status"]):
            if time.monotonic() > end:
                return _describe_answer(check, answer)
            time.sleep(POLL_SECONDS)
    return ""


def _describe_answer(check: Check, answer: str) -> str:
    return f"{check['server_name']}{check['path']} is answered with {answer}, not {check['status']}"


def undrain_if_healthy(
    drains: Drains, host: str, kind: str | None, server: tuple[str, int], balancer_port: int, checks: list[Check],
    timeout: float, check_mode: bool = False,
) -> bool:  # fmt: skip
    """Undrain a host once it passes the checks; drain it again if one then fails through the load balancer.

    :param server: the host's address and port. ``balancer_port``: where the load balancer's own nginx answers.
    :returns: whether the host was drained.
    :raises Refused: the host fails a check; it is still drained.
    """
    flag = drains.undrain(host, kind, check_mode=True)
    if not flag or check_mode:
        return bool(flag)
    advice = f"Repair it, then undrain it: playbooks/undrain.yml -e host={host}"
    if problem := await_answer(*server, checks, timeout):
        raise Refused(f"{host} stays drained: asked directly, {problem}, after {timeout:g} s. {advice}")

    def ask_balancer(check: Check) -> str:
        """The first answer that is not the check's status, else empty. The hosts answer in turn."""
        answers = [status("127.0.0.1", balancer_port, check) for _ in drains.hosts]
        return next((answer for answer in answers if answer != str(check["status"])), "")

    passed = [
        check for check in checks if not ask_balancer(check)
    ]  # what fails while the host is drained is not its fault
    drains.undrain(host, kind)
    for check in passed:
        if answer := ask_balancer(check):
            drains.restore(flag)
            problem = _describe_answer(check, answer)
            raise Refused(f"{host} is drained again: asked through the load balancer, {problem}. {advice}")
    return True
