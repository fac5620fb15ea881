"""An app that tells its secrets, and fails when its environment says so."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from flask import Flask, abort


def create_app() -> Flask:
    """Build the WSGI application. ``FAILS`` is ``always``, ``live``, or the name of a host: live there."""
    app = Flask(__name__, instance_relative_config=True)
    app.config.from_pyfile("config.py")
    fails = os.environ.get("FAILS")

    def is_live() -> bool:
        return Path("/srv/neighbour/current").readlink().name == os.environ["FLASKFLEET_RELEASE"]

    @app.get("/healthz")
    def healthz() -> str:
        if fails == "always" or (fails in ("live", socket.gethostname()) and is_live()):
            abort(500)
        return "ok"

    @app.get("/secrets")
    def secrets() -> dict[str, str]:
        return {"variable": os.environ["SECRET"], "file": app.config["KEY"]}

    return app
