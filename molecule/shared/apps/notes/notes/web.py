"""The routes of notes, and what tests want to know of the process behind them."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import humanize
from flask import Flask, abort, render_template_string, request
from markdown_it import MarkdownIt

IMPORTED_BY = os.getpid()
SHOWN = {
    "FLASKFLEET_APP",
    "FLASKFLEET_RELEASE",
    "FLASKFLEET_SHARED",
    "HOME",
    "NOTES_AT",
    "NOTES_DOLLAR",
    "NOTES_EMPTY",
    "NOTES_FILE",
    "NOTES_LINES",
    "NOTES_NUMBER",
    "NOTES_PERCENT",
    "NOTES_QUOTES",
    "NOTES_SECRET",
    "NOTES_SPACES",
    "NOTES_UNICODE",
}
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Notes</title>
<link rel="stylesheet" href="/assets/notes.css">
<h1>Notes</h1>
{% for note in notes %}<article><p>{{ note.age }}</p>{{ note.html | safe }}</article>{% endfor %}
"""


def database() -> sqlite3.Connection:
    """Open the notes, in the folder that outlives releases."""
    connection = sqlite3.connect(Path(os.environ["FLASKFLEET_SHARED"]) / "notes.sqlite3", timeout=10)
    connection.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT, written TEXT)")
    return connection


def notes() -> list[dict[str, Any]]:
    """Return all notes, the oldest first."""
    with closing(database()) as connection:
        rows = connection.execute("SELECT id, text, written FROM notes ORDER BY id").fetchall()
    return [
        {
            "id": number,
            "text": text,
            "html": MarkdownIt().render(text),
            "age": humanize.naturaltime(datetime.now(UTC) - datetime.fromisoformat(written)),
        }
        for number, text, written in rows
    ]


def create_app() -> Flask:
    """Build the WSGI application; nginx serves ``/assets/`` before it gets here."""
    app = Flask(__name__, static_folder=None)

    @app.get("/")
    def page() -> str:
        return render_template_string(PAGE, notes=notes())

    @app.get("/notes")
    def show() -> list[dict[str, Any]]:
        return notes()

    @app.post("/notes")
    def write() -> tuple[dict[str, Any], int]:
        text = request.get_json()["text"]
        with closing(database()) as connection, connection:
            written = datetime.now(UTC).isoformat()
            number = connection.execute("INSERT INTO notes (text, written) VALUES (?, ?)", (text, written)).lastrowid
        return {"id": number}, 201

    @app.get("/env/<name>")
    def env(name: str) -> dict[str, str | None]:
        if name not in SHOWN:
            abort(404)
        return {"value": os.environ.get(name)}

    @app.get("/process")
    def process() -> dict[str, int]:
        return {"pid": os.getpid(), "imported_by": IMPORTED_BY}

    @app.get("/sleep/<int:seconds>")
    def sleep(seconds: int) -> str:
        time.sleep(seconds)
        return "awake"

    @app.get("/log/<int:kilobytes>")
    def log(kilobytes: int) -> str:
        sys.stderr.write("x" * 1023 * kilobytes + "\n" * kilobytes)
        return "written"

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    return app
