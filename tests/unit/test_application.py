"""What uWSGI serves: an app that is below a path of a name keeps its cookies there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import flask
import jinja2
import pytest
from plugin_utils.rendering import PROJECT
from werkzeug.test import Client

TEMPLATE = (PROJECT / "roles/uwsgi/release/application.py.j2").read_text()
Served = Callable[..., Any]


def served(monkeypatch: pytest.MonkeyPatch, wsgi: str, **names: Any) -> Served:
    """The callable of a release whose app is in the module ``shop.web``."""
    module = ModuleType("shop.web")
    module.__dict__.update(names)
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.web", module)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["comment"] = lambda text: f"# {text}"
    code = environment.from_string(TEMPLATE).render(app={"wsgi": wsgi}, ansible_managed="managed")
    namespace: dict[str, Any] = {}
    exec(compile(code, "application.py", "exec"), namespace)
    application: Served = namespace["application"]
    return application


def shop() -> flask.Flask:
    app = flask.Flask("shop")
    app.secret_key = "key"

    @app.get("/")
    def index() -> flask.Response:
        flask.session["user"] = 1
        response = flask.jsonify(flask.url_for("index"))
        response.set_cookie("plain", "a;b")
        response.set_cookie("own", "1", path="/cart/")
        response.set_cookie("told", "1", path=f"{flask.request.script_root}/cart")
        response.set_cookie("all", "1", domain="intranet.lan")
        response.headers.add("Set-Cookie", "__Host-id=1; Secure; Path=/")
        response.headers.add("Set-Cookie", "none=1; HttpOnly")
        return response

    return app


@pytest.mark.parametrize(("wsgi", "names"), [("shop.web:app", {"app": shop()}), ("shop.web:make()", {"make": shop})])
def test_cookies_are_for_the_path_of_the_app(monkeypatch: pytest.MonkeyPatch, wsgi: str, names: dict[str, Any]) -> None:
    answer = Client(served(monkeypatch, wsgi, **names)).get("/", base_url="http://intranet.lan/shop")
    assert answer.json == "/shop/"
    paths = {one.partition("=")[0]: one.partition("Path=")[2] for one in answer.headers.getlist("Set-Cookie")}
    assert paths == {
        "session": "/shop", "plain": "/shop", "own": "/shop/cart", "told": "/shop/cart", "all": "/", "__Host-id": "/",
        "none": "",
    }  # fmt: skip
    assert "none=1; HttpOnly" in answer.headers.getlist("Set-Cookie")
    assert answer.headers.getlist("Set-Cookie")[0].startswith("plain=") and "session=" in str(answer.headers)


def test_at_the_root_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    app = shop()
    application = served(monkeypatch, "shop.web:app", app=app)
    plain, ours = (Client(one).get("/", base_url="http://intranet.lan") for one in (app, application))
    assert plain.headers.getlist("Set-Cookie") == ours.headers.getlist("Set-Cookie")


def test_an_exception_that_is_told_with_the_status_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            raise ValueError
        except ValueError:
            start_response("500 Error", [("set-cookie", "a=1; path=/")], sys.exc_info())
        return [b""]

    application = served(monkeypatch, "shop.web:app", app=app)
    application({"SCRIPT_NAME": "/shop"}, lambda *arguments: told.append(arguments))
    ((status, headers, exc_info),) = told
    assert (status, headers, exc_info[0]) == ("500 Error", [("set-cookie", "a=1; Path=/shop")], ValueError)
