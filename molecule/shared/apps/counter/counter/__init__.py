"""An app for tests that keeps its own record of each request, so that lost and repeated ones are found."""

from __future__ import annotations

import hashlib
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, request


@cache
def opened(path: Path) -> int:
    """Open a file for appending, once in a process; returns its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def record(number: int, method: str) -> None:
    """Append a line to the record, which outlives releases: one write, so that no two workers mix theirs."""
    os.write(opened(Path(os.environ["FLASKFLEET_SHARED"]) / "requests.log"), f"{number} {method}\n".encode())


def create_app() -> Flask:
    """Build the WSGI application; nginx serves ``/static/`` before it gets here."""
    app = Flask(__name__)

    @app.route("/work/<int:number>", methods=["GET", "POST"])
    def work(number: int) -> dict[str, Any]:
        record(number, request.method)
        answer = {"number": number, "release": os.environ.get("FLASKFLEET_RELEASE"), "pid": os.getpid()}
        if request.method == "POST":
            answer["sha256"] = hashlib.sha256(request.get_data()).hexdigest()
        time.sleep(request.args.get("seconds", 0.0, type=float))
        return answer

    @app.get("/headers/<int:kilobytes>")
    def headers(kilobytes: int) -> Response:
        """An answer whose header has so many kilobytes."""
        return Response("fine", headers={f"X-Fill-{n}": "x" * (1020 - len(f"X-Fill-{n}")) for n in range(kilobytes)})

    @app.get("/stream/<int:megabytes>")
    def stream(megabytes: int) -> Response:
        """An answer whose length nobody knows before its end."""
        return Response(bytes(1 << 20) for _ in range(megabytes))

    @app.get("/env/<name>")
    def env(name: str) -> Response:
        if name not in os.environ:
            abort(404)
        return Response(os.environ[name], mimetype="text/plain")

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    return app
