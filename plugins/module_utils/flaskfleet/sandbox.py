"""Running what root does not trust: builds of packages and of apps, and pip on the wheels that came of them.

::

    /var/lib/flaskfleet/sandboxes/<purpose>/   root:_flaskfleet_<purpose> 0750; gone when the work is done
        given/                                 root's; readable in the sandbox
        work/                                  the user's HOME, TMPDIR and working directory, on disk

A system user per purpose, which owns nothing else. No set-user-ID program counts for it (prctl(2),
PR_SET_NO_NEW_PRIVS), so neither sudo nor crontab outlives it. Root writes nothing below ``work``, and takes what is
there as data, once all processes of the user are killed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .files import lock, remove_trees

SANDBOXES = Path("/var/lib/flaskfleet/sandboxes")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
KILLS = 5
OUTPUT_BYTES = 1 << 20  # of what a command says, its end
# What an environment has: to its interpreter, and to lib. Of a path that is no UTF-8 no pattern is sure.
LINKS = ["-regextype", "posix-extended", "-regex", r"\./(bin/[^/]+|lib64)"]


class CommandFailed(Exception):
    """A command failed in a sandbox, or has made what root does not take; the message has its words."""


class Sandbox:
    """A user and its folder, see ``sandbox``."""

    def __init__(self, user: str, folder: Path) -> None:
        self.user = user
        self.given = folder / "given"
        self.work = folder / "work"

    def run(
        self,
        argv: Sequence[str | Path],
        variables: Mapping[str, str] | None = None,
        folder: Path | None = None,
        within: float | None = None,
    ) -> str:
        """Run a command as the user; returns its output. Pip has no settings but those in ``variables``.

        :param folder: below ``work``, where it runs; ``work`` itself by default.
        :param within: seconds.

        Its output goes to a file, because a process that it leaves behind would keep a pipe open.

        :raises CommandFailed: with its words.
        """
        command = [*self._become(), *map(str, argv)]
        with tempfile.TemporaryFile(dir=self.given.parent) as output:
            try:
                status = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False,
                    env=self._environment(variables or {}), cwd=folder or self.work, start_new_session=True,
                    timeout=within,
                ).returncode  # fmt: skip
                problem = ""
            except subprocess.TimeoutExpired:
                status, problem = -1, f"\nit did not end within {within:g} seconds"
            output.seek(0, os.SEEK_END)
            output.seek(max(0, output.tell() - OUTPUT_BYTES))
            said = output.read().decode(errors="replace")
        if status:
            raise CommandFailed(f"{' '.join(map(str, argv))}\n{said.strip()}{problem}")
        return said

    def give(self, name: str, content: str) -> Path:
        """Write a file that the user may read, and nobody else but root."""
        path = self.given / name
        path.write_text(content)
        path.chmod(0o644)
        return path

    def take(self, source: Path, target: Path) -> None:
        """Move a folder below ``work`` to a path where nothing is; all of it becomes root's.

        :raises CommandFailed: there is something else in it than files and folders of the user, and the links that an
            environment has.
        """
        self._end()
        # The first that is found: what is there may have names without number.
        plain = ["-type", "d", "-o", "-type", "f", "-links", "1", "-o", "-type", "l", *LINKS]
        odd = [".", "!", "(", "-user", self.user, "(", *plain, ")", ")", "-print", "-quit"]
        if refused := _run(["find", *odd], source).rstrip("\n"):
            raise CommandFailed(f"root does not take {source / refused}: it is no plain file of {self.user}")
        _run(["chown", "-hR", f"{os.geteuid()}:{os.getegid()}", source])
        _run(["chmod", "-R", "a-st,u=rwX,go=rX", source])
        shutil.move(source, target)

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
            "HOME": str(self.work),
            "TMPDIR": str(self.work / "tmp"),
            "USER": self.user,
            "LOGNAME": self.user,
            "LANG": "C.UTF-8",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_NO_INPUT": "1",
            **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
            **({"PIP_CERT": str(CA_BUNDLE)} if CA_BUNDLE.exists() else {}),
            **variables,
        }

    def _become(self) -> list[str]:
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--no-new-privs"]

    def _end(self) -> None:
        """Kill all processes of the user at once, also those that fork meanwhile (kill(2), -1)."""
        if not self.user.startswith("_flaskfleet_"):
            raise CommandFailed(f"{self.user} is no user of a sandbox: its processes are not killed")
        # The user's processes may stop the one that is about to kill them (SIGSTOP): it has its time, and more tries.
        argv = ["timeout", "--signal=KILL", "5", *self._become(), "sh", "-c", "kill -KILL -1; :"]
        for _ in range(KILLS - 1):
            with suppress(CommandFailed):
                _run(argv)
                return
        _run(argv)


@contextmanager
def sandbox(purpose: str, patience: float) -> Iterator[Sandbox]:
    """An empty sandbox, for one process at a time; what a killed one has left is removed.

    :param patience: how many seconds to wait for another process.
    :raises Busy: another one is in.
    """
    folder = SANDBOXES / purpose
    with lock(SANDBOXES / f"{purpose}.lock", patience):
        box = Sandbox(_user(purpose), folder)
        try:
            _empty(box, folder)
            account, root = pwd.getpwnam(box.user), os.geteuid()
            for path, owner, mode in (
                (folder, root, 0o750),
                (box.given, root, 0o755),
                (box.work, account.pw_uid, 0o700),
                (box.work / "tmp", account.pw_uid, 0o700),
            ):
                path.mkdir()
                os.chown(path, owner, account.pw_gid)
                path.chmod(mode)
            yield box
        finally:
            _empty(box, folder)


def _empty(box: Sandbox, folder: Path) -> None:
    box._end()
    remove_trees(folder)


def _user(purpose: str) -> str:
    """The system user of a purpose, added where it is not there. No app has its name, which begins with a letter."""
    name = f"_flaskfleet_{purpose}"
    try:
        pwd.getpwnam(name)
    except KeyError:
        options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        _run(["useradd", *options, "--shell", "/usr/sbin/nologin", "--comment", "flaskfleet sandbox", name])
    return name


def _run(argv: Sequence[str | Path], folder: Path | None = None) -> str:
    done = subprocess.run(
        list(map(str, argv)), capture_output=True, text=True, check=False, errors="surrogateescape", cwd=folder
    )
    if done.returncode:
        raise CommandFailed(f"{' '.join(map(str, argv))}\n{(done.stderr + done.stdout).strip()}")
    return done.stdout
