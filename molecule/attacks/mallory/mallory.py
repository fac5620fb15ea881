"""An app that looks like any other; what its user does beside it is in attack.py."""

from __future__ import annotations

import flaskfleet_spies  # noqa: F401  it notes who runs this
from flask import Flask


def create_app() -> Flask:
    """Build the WSGI application."""
    app = Flask(__name__, static_folder=None)  # its own view of static files would follow links, as the user

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    return app
