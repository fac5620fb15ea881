"""Origins of sources in tests: repositories, a web server, and the fetched folders."""

from __future__ import annotations

import base64
import ssl
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from plugin_utils import sources
from plugin_utils.git import COMMIT


def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the project's own cache and the user's own git configuration out of the tests."""
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "gitconfig").write_text(
        "[user]\nname = me\nemail = me@example.com\n[init]\ndefaultBranch = main\n[safe]\ndirectory = *\n"
    )
    return tmp_path / "cache"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "protocol.file.allow=always", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(repository: Path, **files: str) -> str:
    """Commit files, whose names have _ for a dot; the commit."""
    for name, text in files.items():
        (repository / name.replace("_", ".")).write_text(text)
    git(repository, "add", "--all")
    git(repository, "commit", "--allow-empty", "-m", "next")
    return git(repository, "rev-parse", "HEAD")


def make_repository(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init")
    commit(folder, **files)
    return folder


def of(origin: Path | str, version: str = "main") -> dict[str, Any]:
    return {"path": None, "git": {"url": str(origin), "version": version}, "archive": None, "package": None}


def names(folder: Path | None) -> list[str]:
    assert folder
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def checkouts(cache: Path) -> list[Path]:
    return [path for path in cache.glob("sources/git/*/*") if COMMIT.fullmatch(path.name)]


def publish(origin: Path, www: Path) -> None:
    """Serve a repository as files."""
    git(origin.parent, "clone", "--bare", str(origin), str(www))
    git(www, "update-server-info")


def https_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a https server of files below ``www``, and below ``www/private`` for me:t0ken."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(tmp_path / "key.pem")]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *key, *name, "-out", str(tmp_path / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = f"Basic {base64.b64encode(b'me:t0ken').decode()}"
            if self.path.startswith("/private") and self.headers["Authorization"] != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                super().do_GET()

        def end_headers(self) -> None:
            if self.path == "/encoded.tgz":
                self.send_header("Content-Encoding", "gzip")
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "www" / "private").mkdir(parents=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "www"))) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
