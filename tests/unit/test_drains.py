"""Drained hosts: flag files in a folder, connections in a /proc made by hand, and a server with given answers."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from ansible.module_utils.flaskfleet import drains
from ansible.module_utils.flaskfleet.drains import Drains, Refused, await_idle, describe, undrain_if_healthy
from ansible.module_utils.flaskfleet.sockets import tcp_connections
from ansible.modules.drain import reconcile
from conftest import needs_ipv6
from examples import A, B
from plugin_utils import drains as controller

HOSTS = ["app1", "app2", "app3", "app4"]
FIELDS = {"reason": "a new disk", "by": "ann@box", "process": "box 1"}
OTHER_FIELDS = {"reason": "it", "by": "bob@box", "process": "box 2"}


@pytest.fixture
def balancer(tmp_path: Path) -> Drains:
    """A load balancer of four hosts."""
    return Drains(HOSTS, tmp_path)


def drain(balancer: Drains, *hosts: str, kind: str = "manual") -> None:
    for host in hosts:
        assert balancer.drain(host, kind=kind, **FIELDS)


def test_the_flag_file_of_a_drained_host_is_readable_by_every_user(balancer: Drains) -> None:
    drain(balancer, "app2")
    flag = balancer.folder / "app2"
    assert flag.stat().st_mode & 0o777 == 0o644
    assert balancer.folder.stat().st_mode & 0o777 == 0o755
    told = json.loads(flag.read_text())
    assert told.pop("since") > 0
    assert told == {"host": "app2", "kind": "manual", **FIELDS}


def test_the_folder_holds_flag_files_only(balancer: Drains) -> None:
    drain(balancer, "app2")
    assert [path.name for path in balancer.folder.iterdir()] == ["app2"]


def test_a_second_drain_of_one_kind_keeps_the_flag(balancer: Drains) -> None:
    drain(balancer, "app2")
    before = balancer.flags()
    assert not balancer.drain("app2", kind="manual", **OTHER_FIELDS)
    assert balancer.flags() == before


@pytest.mark.parametrize(
    ("first", "second", "is_kept"),
    [
        ("manual", "run", "manual"),
        ("manual", "quarantine", "manual"),
        ("quarantine", "run", "quarantine"),
        ("run", "quarantine", "quarantine"),
        ("quarantine", "manual", "manual"),
    ],
)
def test_a_weightier_kind_replaces_a_lesser_one(balancer: Drains, first: str, second: str, is_kept: str) -> None:
    drain(balancer, "app2", kind=first)
    assert balancer.drain("app2", kind=second, **OTHER_FIELDS) == (is_kept == second)
    assert balancer.flags()["app2"]["kind"] == is_kept


def test_a_third_drained_host_is_refused_and_the_drained_ones_are_described(balancer: Drains) -> None:
    drain(balancer, "app2", "app4")
    with pytest.raises(
        Refused,
        match=r"can't drain app3: more than 2 .*\. app2 is drained since 2.*, by ann@box: a new disk; app4 "
        r".*undrain\.yml -e host=<name>",
    ):
        drain(balancer, "app3")
    assert set(balancer.flags()) == {"app2", "app4"}


def test_a_drain_that_leaves_no_host_is_refused(tmp_path: Path) -> None:
    balancer = Drains(["app1", "app2"], tmp_path)
    drain(balancer, "app2")
    with pytest.raises(Refused, match=r"can't drain app1: no app server would be left\. app2 is drained since"):
        drain(balancer, "app1")


def test_a_drain_of_the_only_host_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no app server would be left\. app1 is the only app server; add"):
        drain(Drains(["app1"], tmp_path), "app1")


def test_a_host_that_is_no_app_server_is_refused(balancer: Drains) -> None:
    with pytest.raises(Refused, match=r"can't drain app5: it is no app server\. .* app1, app2, app3, app4"):
        drain(balancer, "app5")


def test_hosts_that_left_the_inventory_do_not_count_as_drained(balancer: Drains) -> None:
    drain(balancer, "app3", "app4")
    without = Drains(["app1", "app2", "app5"], balancer.folder.parents[3])
    drain(without, "app1", "app2")
    assert set(without.flags()) == {"app1", "app2"}


def test_check_mode_writes_and_removes_no_flag(balancer: Drains, tmp_path: Path) -> None:
    assert balancer.drain("app2", kind="manual", check_mode=True, **FIELDS)
    assert list(tmp_path.iterdir()) == []
    drain(balancer, "app2", "app4")
    with pytest.raises(Refused):
        balancer.drain("app3", kind="manual", check_mode=True, **FIELDS)
    assert balancer.undrain("app2", None, check_mode=True)
    assert set(balancer.flags()) == {"app2", "app4"}


def test_undrain_of_a_kind_leaves_other_kinds_drained(balancer: Drains) -> None:
    drain(balancer, "app2")
    assert not balancer.undrain("app2", "run")
    assert balancer.undrain("app2", "manual")
    assert not balancer.flags()


def test_undrain_without_a_kind_undrains_any_kind(balancer: Drains) -> None:
    drain(balancer, "app2", kind="quarantine")
    assert balancer.undrain("app2", None)
    assert balancer.undrain("app2", None) is None


def test_flags_of_unknown_hosts_are_removed(balancer: Drains) -> None:
    drain(balancer, "app2", "app3")
    without = Drains(["app1", "app2"], balancer.folder.parents[3])
    assert without.remove_unknown(check_mode=True) == ["app3"]
    assert without.remove_unknown() == ["app3"]
    assert [path.name for path in balancer.folder.iterdir()] == ["app2"]


def test_a_new_load_balancer_adopts_the_flags_of_the_others(balancer: Drains, tmp_path: Path) -> None:
    drain(balancer, "app2")
    drain(Drains(["app9", *HOSTS], tmp_path), "app9")  # unknown to the new load balancer
    flags = [json.loads(path.read_text()) for path in balancer.folder.iterdir()]
    new = Drains(HOSTS, tmp_path / "new")
    assert new.adopt(flags, check_mode=True) == ["app2"]
    assert not new.folder.exists()
    assert new.adopt(flags) == ["app2"]
    assert new.flags() == balancer.flags()


def test_a_load_balancer_adopts_flags_once(balancer: Drains, tmp_path: Path) -> None:
    drain(balancer, "app2")
    flags = list(balancer.flags().values())
    new = Drains(HOSTS, tmp_path / "new")
    assert new.adopt([]) == []
    assert new.adopt(flags) == []  # hosts drained since then were drained on this one, too
    assert new.flags() == {}


def write_old(balancer: Drains, host: str, kind: str) -> None:
    """Write a flag as earlier versions did."""
    balancer.folder.mkdir(parents=True, exist_ok=True)
    (balancer.folder / host).write_text(json.dumps({"host": host, "kind": kind, **FIELDS, "since": 7}))


OLD_KINDS = pytest.mark.parametrize(
    ("old", "kind"), [("work", "run"), ("disagrees", "quarantine"), ("drain", "manual")]
)


@OLD_KINDS
def test_old_kinds_in_flag_files_are_read_by_their_new_names(balancer: Drains, old: str, kind: str) -> None:
    write_old(balancer, "app2", old)
    assert balancer.flags() == {"app2": {"host": "app2", "kind": kind, **FIELDS, "since": 7}}
    assert balancer.undrain("app2", kind, check_mode=True) == balancer.flags()["app2"]
    assert balancer.drain("app2", kind="manual", **OTHER_FIELDS) == (kind != "manual")


@OLD_KINDS
def test_old_kinds_in_flag_files_are_converted_once(balancer: Drains, old: str, kind: str) -> None:
    write_old(balancer, "app2", old)
    drain(balancer, "app3")
    before = {path.name: path.read_text() for path in balancer.folder.iterdir()}
    assert balancer.convert(check_mode=True) == ["app2"]
    assert {path.name: path.read_text() for path in balancer.folder.iterdir()} == before
    assert balancer.convert() == ["app2"]
    assert json.loads((balancer.folder / "app2").read_text()) == {"host": "app2", "kind": kind, **FIELDS, "since": 7}
    assert (balancer.folder / "app3").read_text() == before["app3"]
    assert balancer.convert() == []


def test_state_reconciled_removes_adopts_and_converts_flags(balancer: Drains, tmp_path: Path) -> None:
    write_old(balancer, "app2", "work")
    write_old(balancer, "app9", "drain")
    changed = {"changed": True, "removed": ["app9"], "adopted": [], "converted": ["app2"]}
    assert reconcile(balancer, {"gathered": []}, True) == changed
    assert reconcile(balancer, {"gathered": []}, False) == changed
    unchanged = {"changed": False, "removed": [], "adopted": [], "converted": []}
    assert reconcile(balancer, {"gathered": []}, False) == unchanged
    gathered = [{"unreachable": True}, {"drained": balancer.flags()}]
    new = Drains(HOSTS, tmp_path / "new")
    assert reconcile(new, {"gathered": gathered}, False) == {**unchanged, "changed": True, "adopted": ["app2"]}
    assert new.flags()["app2"]["kind"] == "run"


def test_a_flag_is_described_in_words() -> None:
    flag = {"host": "app1", "kind": "manual", "reason": "a new disk", "by": "ann@box", "since": 0}
    assert describe(flag) == "app1 is drained since 1970-01-01T00:00:00Z, by ann@box: a new disk"


# the other app servers


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"app1": 200, "app2": 200}, ""),
        ({"app1": 200, "app2": 500, "app3": 200}, ""),
        ({"app1": 500, "app2": 500}, ""),  # nothing is lost
        ({"app2": 500}, ""),  # app1 does not have this app
        ({"app1": 200, "app2": 503}, r"only app1 answers blog.*/healthz with 200, app2 with 503. Nothing"),
        ({"app1": 200, "app4": 200}, r"only app1 answers .* with 200, no other undrained"),  # app4 is drained
        ({"app1": 200}, r"no other undrained app server has it"),
    ],
    ids=["one passes", "one of two passes", "none passes", "another app", "only app1", "one is drained", "alone"],
)
def test_the_only_host_that_passes_a_check_is_not_drained(balancer: Drains, told: dict[str, int], words: str) -> None:
    drain(balancer, "app4")
    with ExitStack() as running:
        servers = {name: f"127.0.0.1:{running.enter_context(server(status))}" for name, status in told.items()}
        checks = [{**CHECKS[0], "servers": servers}]
        with pytest.raises(Refused, match=words) if words else nullcontext():
            assert balancer.drain("app1", checks, kind="run", **FIELDS)
    assert ("app1" in balancer.flags()) == (not words)


# the last request


ROW = "   0: 5B4D1EAC:C350 {remote} {state} 00000000:00000000 00:00000000 00000000 0 0 42 1\n"
IPV4, MAPPED = "524D1EAC", "0000000000000000FFFF0000524D1EAC"  # 172.30.77.82 on a little-endian host


def connections(proc: Path, *rows: tuple[str, str], table: str = "tcp") -> Path:
    (proc / "net").mkdir(exist_ok=True)
    lines = [ROW.format(remote=remote, state=state) for remote, state in rows]
    (proc / "net" / table).write_text("".join(["  sl  local_address rem_address   st\n", *lines]))
    return proc


def test_connections_to_a_port_of_a_host_are_counted(tmp_path: Path) -> None:
    connections(
        tmp_path,
        (f"{IPV4}:0050", "01"),
        (f"{IPV4}:0050", "02"),  # it is being opened
        (f"{IPV4}:0050", "06"),  # TIME_WAIT
        (f"{IPV4}:0050", "08"),  # CLOSE_WAIT: the host has closed its end
        (f"{IPV4}:0016", "01"),  # ssh
        ("534D1EAC:0050", "01"),  # another host
    )
    connections(tmp_path, (f"{MAPPED}:0050", "01"), table="tcp6")
    assert tcp_connections("172.30.77.82", [80], tmp_path) == 3


def test_an_ipv6_address_is_found(tmp_path: Path) -> None:
    connections(tmp_path, ("B80D0120000000000000000001000000:0050", "01"), table="tcp6")
    assert tcp_connections("2001:db8::1", [80, 443], tmp_path) == 1


def test_a_host_without_connections_is_idle(tmp_path: Path) -> None:
    assert await_idle("172.30.77.82", [80], 0, connections(tmp_path, (f"{IPV4}:0016", "01"))) == 0


@pytest.mark.parametrize("address", ["2001:db8::1", "app2.example.lan"], ids=["an address", "a name of two addresses"])
def test_connections_to_an_ipv6_address_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    def resolved(name: str, _port: None) -> list[Any]:
        found = ["172.30.77.82", "2001:db8::1", "2001:db8::1"] if name != "2001:db8::1" else [name]
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, 0)) for one in found]

    monkeypatch.setattr(drains.socket, "getaddrinfo", resolved)
    connections(tmp_path, ("B80D0120000000000000000001000000:0050", "01"), table="tcp6")
    assert await_idle(address, [80], 0, tmp_path) == 1


def test_connections_left_after_the_timeout_are_counted(tmp_path: Path) -> None:
    proc = connections(tmp_path, (f"{IPV4}:0050", "01"), (f"{IPV4}:0050", "01"))
    assert await_idle("172.30.77.82", [80], 0.1, proc) == 2


def test_the_last_connection_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nginx is about to open another one when it ends."""
    found = iter([1, 0, 1, 0, 0, 0])
    monkeypatch.setattr(drains, "POLL_SECONDS", 0)
    monkeypatch.setattr(drains, "tcp_connections", lambda *_: next(found))
    assert await_idle("172.30.77.82", [80], 60, tmp_path) == 0
    assert next(found, "all") == "all"


# undrain


class IPv6Server(HTTPServer):
    """An HTTP server with an IPv6 address."""

    address_family = socket.AF_INET6


@contextmanager
def server(*told: int, address: str = "127.0.0.1", asked_for: str = "blog.example.lan") -> Iterator[int]:
    """A server that answers with these statuses, the last one from then on; its port."""
    statuses = list(told)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_ours = (self.path, self.headers["Host"]) == ("/healthz", asked_for)
            self.send_response((statuses.pop(0) if len(statuses) > 1 else statuses[0]) if is_ours else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with (IPv6Server if ":" in address else HTTPServer)((address, 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running.server_address[1]
        finally:
            running.shutdown()
            thread.join()


ASKED = {"path": "/healthz", "method": "GET", "headers": {}, "status": 200}
CHECKS = [{"server_name": "blog.example.lan", **ASKED}]


def undrain(balancer: Drains, host: int, own: int, kind: str | None = None, check_mode: bool = False) -> bool:
    return undrain_if_healthy(balancer, "app2", kind, ("127.0.0.1", host), own, CHECKS, 0.5, check_mode)


def test_a_host_that_passes_its_checks_is_undrained(balancer: Drains) -> None:
    drain(balancer, "app2")
    with server(503, 200) as host, server(200) as own:  # the app is starting
        assert undrain(balancer, host, own)
    assert not balancer.flags()


@needs_ipv6
def test_a_host_with_an_ipv6_address_is_asked(balancer: Drains) -> None:
    drain(balancer, "app2")
    check = {**CHECKS[0], "server_name": "[fd00::20]"}
    with server(200, address="::1", asked_for="[fd00::20]") as host, server(200, asked_for="[fd00::20]") as own:
        assert undrain_if_healthy(balancer, "app2", None, ("::1", host), own, [check], 0.5)
        with pytest.raises(Refused, match="only app1 answers"):
            balancer.drain("app1", [{**check, "servers": {"app1": f"[::1]:{host}"}}], kind="run", **FIELDS)


@contextmanager
def https_server(status: int, server_name: str = "blog.example.lan") -> Iterator[int]:
    """A server that sends to https who asks by http, and answers there; the port of http.

    A handshake names no address (RFC 6066, 3).
    """
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if isinstance(self.connection, ssl.SSLSocket):
                asked.append(self.headers["Host"])
                self.send_response(status)
            else:
                self.send_response(301)
                self.send_header("Location", f"https://{server_name}:{secure.server_port}/healthz")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(server_name.strip("[]")).configure_cert(context)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with HTTPServer(("127.0.0.1", 0), Handler) as plain, HTTPServer(("127.0.0.1", 0), Handler) as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        threads = [
            threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}) for one in (plain, secure)
        ]
        for thread in threads:
            thread.start()
        try:
            yield plain.server_port
        finally:
            for one in (plain, secure):
                one.shutdown()
            for thread in threads:
                thread.join()
    assert set(names) == {None if "[" in server_name else server_name} and set(asked) == {server_name}


@pytest.mark.parametrize("status", [200, 502])
@pytest.mark.parametrize("server_name", ["blog.example.lan", "[fd00::20]"])
def test_a_check_follows_a_site_to_https(status: int, server_name: str) -> None:
    with https_server(status, server_name) as own:
        assert drains.status("127.0.0.1", own, {**CHECKS[0], "server_name": server_name}) == str(status)


def test_a_check_does_not_follow_an_answer_that_it_asks_for() -> None:
    with https_server(200) as own:
        assert drains.status("127.0.0.1", own, {**CHECKS[0], "status": 301}) == "301"
        assert drains.status("127.0.0.1", own, CHECKS[0]) == "200"


def test_a_check_does_not_follow_an_app_to_another_name() -> None:
    other = {**CHECKS[0], "server_name": "other.example.lan"}
    with https_server(200) as own:
        assert drains.status("127.0.0.1", own, other) == "301"
        assert drains.status("127.0.0.1", own, CHECKS[0]) == "200"


def test_a_host_that_fails_a_check_stays_drained(balancer: Drains) -> None:
    drain(balancer, "app2")
    with (
        server(503) as host,
        server(200) as own,
        pytest.raises(Refused, match=r"app2 stays drained: asked directly, .* answered with 503, not 200, after"),
    ):
        undrain(balancer, host, own)
    assert set(balancer.flags()) == {"app2"}


def test_a_host_that_is_down_stays_drained(balancer: Drains) -> None:
    drain(balancer, "app2")
    with server(200) as host:
        pass
    with pytest.raises(Refused, match="Connection refused"):
        undrain(balancer, host, host)


def test_a_host_that_fails_through_the_load_balancer_is_drained_again(balancer: Drains) -> None:
    drain(balancer, "app2")
    before = balancer.flags()
    with (
        server(200) as host,
        server(200, 200, 200, 200, 200, 200, 502, 200) as own,
        pytest.raises(Refused, match=r"app2 is drained again: asked through the load balancer, .* 502, not 200"),
    ):
        undrain(balancer, host, own)
    assert balancer.flags() == before


def test_a_host_is_undrained_even_if_another_one_fails_a_check(balancer: Drains) -> None:
    drain(balancer, "app2")
    with server(200) as host, server(200, 502, 200) as own:
        assert undrain(balancer, host, own)
    assert not balancer.flags()


def test_a_host_is_a_load_balancer_once_its_nginx_is_configured(balancer: Drains) -> None:
    assert not balancer.is_balancer()
    balancer.configured.parent.mkdir(parents=True)
    balancer.configured.touch()
    assert balancer.is_balancer()


def test_a_host_that_is_not_drained_is_not_checked(balancer: Drains) -> None:
    assert not undrain(balancer, 1, 1)


def test_a_host_that_is_drained_for_another_kind_is_not_checked(balancer: Drains) -> None:
    drain(balancer, "app2")
    assert not undrain(balancer, 1, 1, "run")


def test_check_mode_checks_no_host(balancer: Drains) -> None:
    drain(balancer, "app2")
    assert undrain(balancer, 1, 1, check_mode=True)
    assert set(balancer.flags()) == {"app2"}


# the controller


def runs(live: str | None = A, **changed: Any) -> dict[str, Any]:
    """The result of app_lock for the app on a host."""
    return {"live": live, "lock": {}, "singletons": False, **changed}


def results(**hosts: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The results of all hosts; a host that is None did not answer."""
    return [
        {"item": host, **({"apps": {"blog": told}} if told else {"unreachable": True})} for host, told in hosts.items()
    ]


def test_health_checks_have_each_balanced_app_and_its_servers() -> None:
    servers = [{"name": "app1", "address": "10.0.0.1:80", "weight": 1}]
    balanced = [{"name": "blog", "server_names": ["*.lan"], "urls": [], "read_timeout_seconds": 40, "servers": servers}]
    entry = {"source": {"path": "/x"}, "wsgi": "blog:app", "health": {"path": "/healthz"}}
    assert controller.health_checks({"blog": entry, "shop": entry}, balanced) == [
        {"server_name": "flaskfleet-check.lan", **ASKED, "servers": {"app1": "10.0.0.1:80"}}
    ]


def test_the_health_check_asks_for_an_ipv6_address_in_brackets() -> None:
    site = {"name": "blog", "server_names": ["fd00::20"], "urls": [], "servers": []}
    (check,) = controller.health_checks({"blog": {"source": {"path": "/x"}, "wsgi": "blog:app"}}, [site])
    assert check["server_name"] == "[fd00::20]"


def test_a_host_that_one_load_balancer_drains_is_drained() -> None:
    told = [{"drained": {"app2": {"host": "app2", "kind": "run"}}}, {"unreachable": True}, {"drained": {}}]
    assert controller.drained_hosts(told) == controller.drained_hosts(told, "run") == ["app2"]
    assert controller.drained_hosts(told, "manual") == []


def test_hosts_that_a_killed_run_drained_are_interrupted_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "has_ended", lambda process: process == "box 1")
    told = [
        {"unreachable": True},
        {
            "drained": {
                host: {"host": host, "kind": kind, "process": process}
                for host, kind, process in (
                    ("app1", "run", "box 2"),
                    ("app2", "run", "box 1"),
                    ("app3", "manual", "box 1"),
                )
            }
        },
    ]
    assert controller.interrupted_drains(told) == ["app2"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (results(app1=runs(A), app2=runs(f"{A}.1"), app3=None), []),
        (
            results(app1=runs(A), app2=runs(B), app3=runs(B)),
            [f"blog: {A} is live on app1 and {B} on app2, app3; deploy or roll back"],
        ),
        (results(app1=runs(A), app4=runs(B)), []),  # app4 is drained
        (results(app1=None, app2=runs(A)), ["app1 does not answer"]),
        (results(app1=runs(None)), ["blog: no release is live on app1; site.yml releases the fleet's"]),
        (
            results(app1=runs(lock={"what": "deploy", "by": "ann@box"})),
            ["blog: a deploy by ann@box holds the lock; try again when it is done"],
        ),
    ],
    ids=["the same", "another", "of a drained host", "silent", "none", "a rollout"],
)
def test_a_host_needs_the_release_of_the_undrained_hosts(told: list[dict[str, Any]], words: list[str]) -> None:
    assert controller.undrain_problems(told, "app1", ["app4"]) == words


@pytest.mark.parametrize(
    ("told", "target"),
    [
        (results(app1=runs(singletons=True), app2=runs(), app3=runs()), "app2"),
        (results(app1=runs(), app2=runs(), app3=runs(singletons=True)), "app3"),
        (results(app1=runs(), app4=runs(), app3=runs()), "app3"),
        (results(app1=runs(), app2=None, app3=runs(None)), None),
    ],
    ids=["the first", "the one that runs them", "not a drained one", "none"],
)
def test_singletons_move_to_an_undrained_host_that_answers(told: list[dict[str, Any]], target: str | None) -> None:
    assert controller.singletons_target(told, "blog", "app1", ["app4"]) == target


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (results(app1=runs(singletons=True), app2=runs(singletons=True)), False),
        (results(app1=runs(), app2=runs()), True),
        (results(app1=runs(), app2=None), None),
        (results(app1=runs(), app2=None, app3=runs(singletons=True)), False),
    ],
    ids=["another runs them", "none runs them", "one is silent", "one is silent and another runs them"],
)
def test_a_host_should_run_singletons_that_no_other_one_runs(told: list[dict[str, Any]], expected: bool | None) -> None:
    assert controller.should_run_singletons(told, "blog", "app1") is expected
