"""The health check of a release, over its socket."""

from __future__ import annotations

from .paths import AppPaths
from .services import uwsgi_request


def probe(paths: AppPaths, release: str, timeout: float) -> str | None:
    """Ask a release's health path over its socket, as nginx does; the problem in words, or None.

    :param timeout: seconds for the whole answer.
    """
    health, host = paths.entry(release)["health"], paths.record(release)["host"]
    path, wanted = health["path"], health.get("status", 200)
    variables = {
        "REQUEST_METHOD": health.get("method", "GET"),
        "PATH_INFO": path.partition("?")[0],
        "QUERY_STRING": path.partition("?")[2],
        "REQUEST_URI": path,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": host,
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": host,
        "HTTP_USER_AGENT": "flaskfleet",
    }
    for name, value in health.get("headers", {}).items():
        variables[f"HTTP_{name.upper().replace('-', '_')}"] = value
    if variables.get("HTTP_X_FORWARDED_PROTO") == "https":  # as nginx sets them
        variables |= {"UWSGI_SCHEME": "https", "REQUEST_SCHEME": "https", "HTTPS": "on"}
    try:
        status, body = uwsgi_request(str(paths.path(release) / "run" / "uwsgi.sock"), variables, timeout=timeout)
    except OSError as error:
        return f"{path} gave no answer ({error})"
    problem = f"{path} answered {status}{f', not {wanted}' if wanted != 200 else ''}"
    return None if status == wanted else f"{problem}: {body[:200].decode(errors='replace')}"
