"""The Supervisor program that listens for http if nginx does not. A deploy never changes it."""

from __future__ import annotations

from pathlib import Path

from .app import App
from .app_programs import SETTLES_WITHIN, STOPPED_WITHIN
from .environments import Environment, build_environment
from .files import point_symlink
from .paths import ReleaseFailed


def configure(app: App, conf: str | None, environment: Environment | None) -> bool:
    """Start the router, which passes requests to ``current``, or remove it if ``conf`` is None; whether it changed."""
    program, file = f"{app.name}-http", app.paths.conf_d / f"{app.name}-http.conf"
    if conf is None or environment is None:
        if not file.exists():
            return False
        app.supervisor.stop([program], STOPPED_WITHIN)
        (app.paths.home / "router").unlink(missing_ok=True)
        file.unlink()
        return True
    target = f"venvs/{build_environment(app.paths.venvs, environment, app.paths.pool)}"
    written = file.read_text() if file.exists() else None
    if written == conf and app.paths.target("router") == Path(target).name and app.supervisor.is_running(program):
        return False
    app.supervisor.stop([program], STOPPED_WITHIN)
    point_symlink(app.paths.home / "router", target)
    app.programs.register(file, conf.encode())
    app.supervisor.start(program)
    if not app.supervisor.settle(program, SETTLES_WITHIN):
        raise ReleaseFailed(f"{program} does not start; see {app.paths.logs}/http.log")
    return True
