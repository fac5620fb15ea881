"""The reference app of flaskfleet: who answered, and how it was asked."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from . import uwsgi, views

MAX_ENVELOPE = 65_536  # bytes that multipart may add around an uploaded file


def create_app() -> Flask:
    """Build the WSGI application; nginx serves ``/static/`` before it gets here."""
    app = Flask(__name__, static_folder=Path(__file__).parents[1] / "static")
    app.config["MAX_CONTENT_LENGTH"] = views.MAX_UPLOAD + MAX_ENVELOPE
    app.json.sort_keys = False
    app.json.compact = False
    app.register_blueprint(views.routes)
    app.register_error_handler(HTTPException, show_error)
    app.after_request(finish)
    return app


def show_error(error: HTTPException) -> Response:
    """Answer an error with its own status and headers, as JSON or as a small page."""
    response = error.get_response()
    message = error.description
    if error.code == 413:
        limit = views.MAX_UPLOAD // 10**6
        message = f"The request is too large: a file may have up to {limit} MB."
    facts = {"status": error.code, "error": error.name, "message": message}
    if views.wants_json():
        response.data, response.mimetype = jsonify(facts).data, "application/json"
    else:
        response.data = render_template("error.html", **facts)
    return response


def finish(response: Response) -> Response:
    """Let pages load nothing but static files and be in no frame, and let nobody store anything else."""
    uwsgi.drain(request.environ["wsgi.input"])
    response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
