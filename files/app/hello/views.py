"""The routes: a page for people, JSON for programs."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import shutil
import socket
import time
from importlib import metadata
from typing import IO, Any, NamedTuple

from flask import Blueprint, abort, render_template, request

from . import uwsgi

CHUNK = 1 << 20  # bytes read at once
MAX_SLEEP = 60  # seconds
MAX_UPLOAD = 100_000_000  # bytes in one uploaded file

routes = Blueprint("hello", __name__)


class Hop(NamedTuple):
    """One machine that a request went through."""

    role: str  # client, balancer or server
    name: str  # an address, of the server its host name


def wants_json() -> bool:
    """Tell whether the client likes JSON better than HTML; who takes anything gets HTML."""
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == ("application/json")


def fleet(name: str) -> str:
    """Return the fact that the fleet set as ``FLASKFLEET_<name>``."""
    return os.environ.get(f"FLASKFLEET_{name}", "development")


def shared() -> str:
    """Say in a few words whether the folder that all releases share can be written."""
    folder = os.environ.get("FLASKFLEET_SHARED")
    if folder is None:
        return "development"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "not writable"
    return f"writable, {shutil.disk_usage(folder).free / 1e9:.1f} GB free"


def peer() -> str:
    """Return the address that opened the connection to nginx."""
    return request.environ.get("PEER_ADDR") or request.remote_addr or "unknown"


def hops() -> list[Hop]:
    """Return the way of this request, from the client to this host."""
    client = Hop("client", request.remote_addr or "unknown")
    balancers = [Hop("balancer", peer())] if peer() != client.name else []
    return [client, *balancers, Hop("server", socket.gethostname())]


def digest(stream: IO[bytes]) -> tuple[int, str]:
    """Read a stream to its end: its size in bytes and its SHA-256 in hex."""
    size, sha256 = 0, hashlib.sha256()
    while chunk := stream.read(CHUNK):
        size += len(chunk)
        sha256.update(chunk)
    return size, sha256.hexdigest()


def page(uploaded: dict[str, Any] | None = None) -> str:
    """Render the page, with what became of an upload if there was one."""
    return render_template(
        "index.html",
        this=version(),
        hops=hops(),
        shared=shared(),
        workers=uwsgi.workers(),
        limit=MAX_UPLOAD,
        uploaded=uploaded,
    )


@routes.get("/")
def index() -> str:
    """Show who answered, how the request came in, the workers and a box for uploads."""
    return page()


@routes.get("/healthz")
def healthz() -> tuple[str, dict[str, str]]:
    """Say that this worker answers."""
    return "ok", {"Content-Type": "text/plain; charset=utf-8"}


@routes.get("/version")
def version() -> dict[str, Any]:
    """Tell what runs where; ``worker`` and ``uwsgi`` are null outside of uWSGI."""
    return {
        "app": fleet("APP"),
        "release": fleet("RELEASE"),
        "host": socket.gethostname(),
        "worker": uwsgi.worker_id(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "flask": metadata.version("flask"),
        "uwsgi": uwsgi.version(),
    }


@routes.route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def echo() -> dict[str, Any]:
    """Send back what arrived, the body as its size in bytes and its SHA-256.

    ``environ`` has the WSGI variables that are strings, without the headers and without
    the environment of the process, which some servers mix in.
    """
    size, sha256 = digest(request.stream)
    return {
        "method": request.method,
        "path": request.path,
        "query": request.args.to_dict(flat=False),
        "headers": dict(request.headers),
        "remote_addr": request.remote_addr,
        "peer_addr": peer(),
        "scheme": request.scheme,
        "host": request.host,
        "body": {"size": size, "sha256": sha256},
        "environ": {
            name: value
            for name, value in sorted(request.environ.items())
            if isinstance(value, str) and not name.startswith("HTTP_") and name not in os.environ
        },
    }


@routes.get("/sleep/<text>")
def sleep(text: str) -> dict[str, float]:
    """Keep this worker busy for 0 to 60 seconds; 400 for anything else."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_SLEEP:  # false for nan, too
        abort(400, f"The seconds to sleep are a number from 0 to {MAX_SLEEP}.")
    time.sleep(seconds)
    return {"slept": seconds}


@routes.post("/upload")
def upload() -> dict[str, Any] | str:
    """Tell the name, size in bytes and SHA-256 of the multipart field ``file``.

    400 when there is none, 413 when it has more than ``MAX_UPLOAD`` bytes. A large one
    waits in a temporary file, never in memory.
    """
    file = request.files.get("file")
    if not file:  # nor one without a name, as of browsers when none is chosen
        abort(400, "There is no file: choose one first.")
    size, sha256 = digest(file.stream)
    if size > MAX_UPLOAD:
        abort(413)
    uploaded = {"name": file.filename, "size": size, "sha256": sha256}
    return uploaded if wants_json() else page(uploaded)
