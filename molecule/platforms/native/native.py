"""An app that needs a compiled extension without a wheel, and a wheel that no index has."""

from __future__ import annotations

import bitarray
import flaskfleet_private
from flask import Flask


def create_app() -> Flask:
    """Build the WSGI application."""
    app = Flask(__name__)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {
            "bits": bitarray.bitarray("101").to01(),
            "extension": bitarray._bitarray.__file__,
            "private": flaskfleet_private.NAME,
        }

    return app
