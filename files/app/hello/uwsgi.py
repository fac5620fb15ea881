"""What uWSGI knows of itself: its module exists only inside its own processes."""

from __future__ import annotations

from contextlib import suppress
from types import ModuleType
from typing import IO, NamedTuple


class Worker(NamedTuple):
    """One of uWSGI's processes."""

    id: int  # from 1
    pid: int  # 0 when it is not running
    state: str  # idle, busy, pause, cheap or sig<number>
    requests: int
    average: float  # milliseconds that a request takes
    exceptions: int
    restarts: int  # how often uWSGI started it again


def module() -> ModuleType | None:
    """Return uWSGI's module, None outside of uWSGI."""
    try:
        import uwsgi
    except ImportError:
        return None
    return uwsgi


def version() -> str | None:
    """Return uWSGI's version, as in ``2.0.31``, None outside of uWSGI."""
    uwsgi = module()
    return uwsgi and uwsgi.version.decode()


def worker_id() -> int | None:
    """Return the number of the worker that runs this, from 1, None outside of uWSGI."""
    uwsgi = module()
    return uwsgi and uwsgi.worker_id()


def workers() -> list[Worker]:
    """Return all workers by their number, none outside of uWSGI."""
    uwsgi = module()
    return [
        Worker(
            id=row["id"],
            pid=row["pid"],
            state=row["status"].decode(),
            requests=row["requests"],
            average=row["avg_rt"] / 1000,
            exceptions=row["exceptions"],
            restarts=row["respawn_count"],
        )
        for row in (uwsgi.workers() if uwsgi else ())
    ]


def drain(body: IO[bytes]) -> None:
    """Read what is left of a request's body, inside of uWSGI, where that ends at its end.

    To answer without it would break nginx's connection: it would tell the client 502.
    """
    if module():
        with suppress(OSError):  # the client is gone
            while body.read(1 << 20):
                pass
