"""The program that gets certificates of an ACME directory, with other programs in dehydrated's and nginx's place."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from plugin_utils.rendering import PROJECT
from test_certificates import key_of, pem

WANTED = {"names": ["a.lan", "b.lan"], "directory": "https://ca/dir"}


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program, on a host below a folder."""
    spec = importlib.util.spec_from_file_location("acme", PROJECT / "roles/nginx/files/acme.py")
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("CONFIG", "STATE", "RECORD", "TREE", "LOCK"):
        monkeypatch.setattr(module, name, tmp_path / str(getattr(module, name)).lstrip("/"))
    for path in (module.CONFIG.parent, module.STATE, module.LOCK.parent, module.TREE, tmp_path / "bin"):
        path.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(module, "PATIENCE", 2)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    for name in ("dehydrated", "nginx", "systemctl"):
        program(tmp_path, name, "exit 0")
    return module


def program(root: Path, name: str, script: str) -> None:
    """Put a program into PATH that also notes its arguments."""
    path = root / "bin" / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>{root}/calls\n{script}\n')
    path.chmod(0o755)


def calls(root: Path, name: str) -> list[str]:
    """The calls of a program so far."""
    path = root / "calls"
    return [line for line in path.read_text().splitlines() if line.startswith(name)] if path.exists() else []


@pytest.fixture
def server(acme: Any) -> Iterator[Callable[..., dict[str, Any]]]:
    """``server(site)``: dehydrated has a new certificate for a site, and a TLS server serves what nginx would."""
    listener = socket.create_server(("127.0.0.1", 0))
    ca = trustme.CA()

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(acme.STATE / "served/a.pem")
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                if listener.fileno() < 0:
                    return

    def issue(*sites: str) -> dict[str, Any]:
        for site in sites or ("a",):
            make(site)
        config = {"directory": WANTED["directory"], "port": listener.getsockname()[1]}
        acme.CONFIG.write_text(json.dumps({**config, "sites": dict.fromkeys(sites or ("a",), WANTED["names"])}))
        return config

    def make(site: str) -> None:
        cert, folder = ca.issue_cert(*WANTED["names"]), acme.STATE / "certs" / site
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "privkey.pem").write_bytes(key_of(cert))
        (folder / "cert.pem").write_bytes(cert.cert_chain_pems[0].bytes())
        (folder / "fullchain.pem").write_bytes(pem(*cert.cert_chain_pems))

    threading.Thread(target=answer, daemon=True).start()
    yield issue
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_certificate_is_got_served_and_recorded(acme: Any, server: Any, tmp_path: Path) -> None:
    server()
    assert acme.main([]) == 0
    entry = acme.read_record()["a"]
    assert entry["served"] == entry["fetched"] == {**WANTED, **acme.read_certificate(acme.STATE / "served/a.pem")}
    (call,) = calls(tmp_path, "dehydrated")
    assert "--alias a --domain a.lan --domain b.lan" in call
    assert (acme.STATE / "served/a.pem").stat().st_mode & 0o777 == 0o600
    assert (acme.STATE / "served/a.conf").read_text() == "include tls/acme-a.conf;\n"
    assert calls(tmp_path, "nginx") + calls(tmp_path, "systemctl") == ["nginx -t -q", "systemctl reload nginx"]


def test_nothing_is_asked_where_nothing_is_due(acme: Any, server: Any, tmp_path: Path) -> None:
    server()
    assert [acme.main([]), acme.main([])] == [0, 0]
    assert len(calls(tmp_path, "dehydrated")) == 1
    assert acme.main(["a"]) == 0
    assert len(calls(tmp_path, "dehydrated")) == 2


@pytest.mark.parametrize(
    ("fetched", "is_due"),
    [
        ({}, True),
        ({**WANTED, "since": 0, "until": 90}, False),
        ({**WANTED, "since": 0, "until": 89}, True),
        ({**WANTED, "names": ["a.lan"], "since": 0, "until": 900}, True),
        ({**WANTED, "directory": "https://other/dir", "since": 0, "until": 900}, True),
    ],
)
def test_a_third_of_its_life_before_its_end_it_is_due(acme: Any, fetched: dict[str, Any], is_due: bool) -> None:
    assert acme.is_due(fetched, WANTED, 60) is is_due


def test_what_was_got_is_served_by_a_later_run(acme: Any, server: Any, tmp_path: Path, capsys: Any) -> None:
    """It is not got again: a directory limits how often."""
    server()
    program(tmp_path, "nginx", 'echo "emerg: no such file" >&2; exit 1')
    assert acme.main([]) == 1
    assert "a has no new certificate: nginx -t -q: emerg: no such file" in capsys.readouterr().err
    assert not list(acme.STATE.glob("served/*")) and acme.read_record()["a"]["served"] == {}
    program(tmp_path, "nginx", "exit 0")
    assert acme.main([]) == 0
    assert len(calls(tmp_path, "dehydrated")) == 1
    assert "error" not in acme.read_record()["a"]


def test_a_site_keeps_what_it_had_where_another_is_not_served(acme: Any, server: Any, monkeypatch: Any) -> None:
    server()
    assert acme.main([]) == 0
    before = (acme.STATE / "served/a.pem").read_text()
    server()
    monkeypatch.setattr(acme, "is_answered", lambda *_: False)
    assert acme.main(["a"]) == 1
    assert "has not served the new one within 2 s" in acme.read_record()["a"]["error"]
    assert (acme.STATE / "served/a.pem").read_text() == before
    assert (acme.STATE / "served/a.pem").stat().st_mode & 0o777 == 0o600


def test_an_interrupted_run_of_site_yml_comes_first(acme: Any, server: Any) -> None:
    server()
    (acme.TREE / "journal.json").write_text("{}")
    assert acme.main([]) == 1
    assert "run site.yml again" in acme.read_record()["a"]["error"]
    assert not list(acme.STATE.glob("served/*"))


def test_a_nonce_that_the_directory_refuses_is_tried_again(acme: Any, server: Any, tmp_path: Path) -> None:
    server()
    refused = (
        """[ $(wc -l <%s/calls) -gt 2 ] || { echo '"type": "urn:ietf:params:acme:error:badNonce"' >&2; exit 1; }"""
    )
    program(tmp_path, "dehydrated", refused % tmp_path)
    assert acme.main([]) == 0
    assert len(calls(tmp_path, "dehydrated")) == 3


def test_an_account_that_the_directory_does_not_know_is_made_anew(acme: Any, server: Any, tmp_path: Path) -> None:
    """dehydrated would ask for it for ever. The folder is named as dehydrated names it."""
    folder = acme.account_folder("https://10.12.29.31:14000/dir")
    assert folder.name == "aHR0cHM6Ly8xMC4xMi4yOS4zMToxNDAwMC9kaXIK"
    server()
    folder = acme.account_folder(WANTED["directory"])
    folder.mkdir(parents=True)
    unknown = (
        f"""[ ! -e {folder} ] || {{ echo '"type": "urn:ietf:params:acme:error:accountDoesNotExist"' >&2; exit 1; }}"""
    )
    program(tmp_path, "dehydrated", unknown)
    assert acme.main([]) == 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('x\n{\n  "type": "urn:…:rateLimited",\n  "detail": "too many \\"x\\"",\n "status": 429}', 'too many \\"x\\"'),
        (
            "+ Go\nERROR: Problem connecting to server (curl returned with 7)\n",
            "Problem connecting to server (curl returned with 7)",
        ),
        ("+ Go\n\n", "+ Go"),
        ("", "dehydrated ended without a word"),
    ],
)
def test_a_failure_has_the_directorys_words(acme: Any, said: str, reason: str) -> None:
    assert acme.find_reason(said) == reason


def test_sites_are_served_by_one_reload(acme: Any, server: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """Where one of them can't be, by one each."""
    server("a", "b")
    monkeypatch.setattr(acme, "is_answered", lambda *_: True)
    assert acme.main([]) == 0
    assert calls(tmp_path, "systemctl") == ["systemctl reload nginx"]
    server("a", "b")
    own = acme.STATE / "certs/a/cert.pem"
    monkeypatch.setattr(acme, "is_answered", lambda _name, _port, certificate: certificate == own.read_text())
    assert acme.main(["a", "b"]) == 1
    record = acme.read_record()
    assert [record[site]["served"] == record[site]["fetched"] for site in ("a", "b")] == [True, False]
    assert "error" in record["b"] and "error" not in record["a"]


def test_a_site_that_nobody_has_is_refused(acme: Any, server: Any) -> None:
    server()
    with pytest.raises(SystemExit, match="blgo: no such site; there are a"):
        acme.main(["blgo"])


def test_a_failure_is_forgotten_when_nothing_is_due_any_more(acme: Any, server: Any) -> None:
    config = server()
    assert acme.main([]) == 0
    program(acme.LOCK.parents[1], "dehydrated", "exit 1")
    for names, code in (([*WANTED["names"], "bad.lan"], 1), (WANTED["names"], 0)):
        acme.CONFIG.write_text(json.dumps({**config, "sites": {"a": names}}))
        assert acme.main([]) == code
        assert ("error" in acme.read_record()["a"]) == bool(code)


def test_files_that_are_gone_are_written_again(acme: Any, server: Any, tmp_path: Path) -> None:
    server()
    assert acme.main([]) == 0
    (acme.STATE / "served/a.conf").unlink()
    assert acme.main([]) == 0
    assert (acme.STATE / "served/a.conf").exists()
    assert len(calls(tmp_path, "dehydrated")) == 1


def test_a_program_that_hangs_is_ended(acme: Any, server: Any, tmp_path: Path, monkeypatch: Any) -> None:
    server()
    monkeypatch.setattr(acme, "AT_MOST", 0.5)
    program(tmp_path, "dehydrated", "exec sleep 60")
    assert acme.main([]) == 1
    assert acme.read_record()["a"]["error"] == "dehydrated has not ended within 0.5 s"


def test_a_site_that_is_not_wanted_any_more_is_forgotten(acme: Any, server: Any) -> None:
    config = server()
    assert acme.main([]) == 0
    acme.CONFIG.write_text(json.dumps({**config, "sites": {}}))
    assert acme.main([]) == 0
    assert acme.read_record() == {}
    assert not list(acme.STATE.glob("served/*")) and not (acme.STATE / "certs/a").exists()
