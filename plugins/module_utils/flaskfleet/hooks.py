"""An app's hooks: commands around a switch, run as the app."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress

from .files import read_ends
from .journal import now, release_id
from .paths import AppPaths, ReleaseFailed


def run(paths: AppPaths, release: str, commands: Iterable[str], timeout: float, once: bool) -> list[str]:
    """Run commands as the app's user, in a release's environment; the lines of their output.

    :param once: skip commands that are recorded as done for the release, and record the others.
    :raises ReleaseFailed: one failed; the message has its output.
    """
    lines = []
    journal = paths.journal()
    done = journal.hooks.setdefault(release_id(release), {})
    for command in commands:
        if once and command in done:
            lines.append(f"$ {command}: done at {done[command]}")
            continue
        status, output = _run_command(paths, release, command, timeout)
        if status:
            raise ReleaseFailed(f"{paths.name} {release}: {command}: {status}\n{output}")
        lines += [f"$ {command}", *output.splitlines()]
        if once:
            done[command] = now()
            journal.save()
    return lines


def _run_command(paths: AppPaths, release: str, command: str, timeout: float) -> tuple[str, str]:
    try:
        argv = [str(paths.path(release) / "exec"), *shlex.split(command)]
    except ValueError as error:
        return f"can't be read: {error}", ""
    # A file, not a pipe, because a process that a hook leaves running may hold a pipe open.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # exec becomes the app's user
            argv, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            cwd=paths.home,
        )  # fmt: skip
        try:
            status = process.wait(timeout)
            problem = f"ended with {status}" if status else ""
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            problem = f"did not end within {timeout} seconds"
        head, tail = read_ends(output)
        return problem, b"\n\xe2\x80\xa6\n".join(filter(None, (head, tail))).decode(errors="replace")
