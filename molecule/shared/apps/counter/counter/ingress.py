"""An app of which several share a name: what nginx has to get right for it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import flask

app = flask.Flask(__name__, static_folder=None)
app.secret_key = os.environ["FLASKFLEET_APP"]
app.static_folder = "static"  # nginx has the files; url_for still knows the rule
app.add_url_rule("/static/<path:filename>", endpoint="static", view_func=app.send_static_file)


@app.get("/healthz")
def healthz() -> str:
    """Nothing is wrong."""
    return "ok"


@app.route("/", methods=["GET", "POST"])
def index() -> dict[str, Any]:
    """Who answers, and what it thinks where it is."""
    return {
        "app": os.environ["FLASKFLEET_APP"],
        "index": flask.url_for("index"),
        "external": flask.url_for("index", _external=True),
        "static": flask.url_for("static", filename="counter.css"),
        "user": flask.session.get("user"),
        "cookies": sorted(flask.request.cookies),
        "size": len(flask.request.get_data()),
    }


@app.get("/environ/<path:rest>")
def environ(rest: str) -> dict[str, str]:
    """The request's variables."""
    told = {name: value for name, value in flask.request.environ.items() if isinstance(value, str)}
    return {**told, "app": os.environ["FLASKFLEET_APP"], "rest": rest}


@app.get("/login/<user>")
def login(user: str) -> flask.typing.ResponseReturnValue:
    """Begin a session, and lead to the index by an absolute address."""
    flask.session["user"] = user
    return flask.redirect(flask.url_for("index", _external=True))


@app.get("/folder/")
def folder() -> str:
    """Flask itself leads here who leaves the slash out."""
    return "folder"


@app.get("/events")
def events() -> flask.Response:
    """Server-sent events, the next one when the client has had time to receive the one before."""

    def told() -> Iterator[str]:
        for number in range(3):
            yield f"data: {number} {time.time()}\n\n"
            time.sleep(1)

    return flask.Response(told(), mimetype="text/event-stream")


@app.get("/chat", websocket=True)
def chat() -> str:
    """Send back what comes, by uWSGI's own WebSocket."""
    import uwsgi  # type: ignore[import-not-found]

    uwsgi.websocket_handshake()
    while True:
        try:
            message = uwsgi.websocket_recv()
        except OSError:  # the client is gone
            return ""
        uwsgi.websocket_send(os.environ["FLASKFLEET_APP"] + ":" + message.decode())
