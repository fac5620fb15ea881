"""Running code that root does not trust: builds of packages and apps, and pip on the wheels that they made.

::

    /var/lib/flaskfleet/sandboxes/<purpose>/   root:_flaskfleet_<purpose> 0750; removed when the work is done
        given/                                 owned by root, readable in the sandbox
        work/                                  the user's HOME, TMPDIR and working directory, on disk

Each purpose has a system user that owns nothing else. The user can't gain privileges (prctl(2), PR_SET_NO_NEW_PRIVS),
so neither sudo nor crontab works. Root writes nothing below ``work``, and moves files out of it only after all
processes of the user are killed.
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
KILL_TRIES = 5
OUTPUT_BYTES = 1 << 20  # of the end of a command's output
# The links of an environment: to its interpreter, and to lib. Other links are refused.
LINKS = ["-regextype", "posix-extended", "-regex", r"\./(bin/[^/]+|lib64)"]


class CommandFailed(Exception):
    """A command failed in a sandbox or made files that root does not accept; the message has its output."""


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
        """Run a command as the user; returns its output. pip reads no configuration file, only ``variables``.

        :param folder: below ``work``, where it runs; ``work`` itself by default.
        :param within: seconds.

        The output goes to a file, because a process that the command leaves behind would keep a pipe open.

        :raises CommandFailed: with its output.
        """
        command = [*self._setpriv(), *map(str, argv)]
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
            text = output.read().decode(errors="replace")
        if status:
            raise CommandFailed(f"{' '.join(map(str, argv))}\n{text.strip()}{problem}")
        return text

    def give(self, name: str, content: str) -> Path:
        """Write a file that only root and the user may read."""
        path = self.given / name
        path.write_text(content)
        path.chmod(0o644)
        return path

    def take(self, source: Path, target: Path) -> None:
        """Move a folder below ``work`` to a new path; root becomes its owner.

        :raises CommandFailed: it has something else than files and folders of the user and an environment's links.
        """
        self.kill_processes()
        # find stops at the first odd file, because the user may have made any number of them.
        allowed = ["-type", "d", "-o", "-type", "f", "-links", "1", "-o", "-type", "l", *LINKS]
        odd = [".", "!", "(", "-user", self.user, "(", *allowed, ")", ")", "-print", "-quit"]
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

    def _setpriv(self) -> list[str]:
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--no-new-privs"]

    def kill_processes(self) -> None:
        """Kill all processes of the user at once (kill(2), -1), so that none escapes by forking."""
        if not self.user.startswith("_flaskfleet_"):
            raise CommandFailed(f"{self.user} is no user of a sandbox: its processes are not killed")
        # The user's processes may stop the killing process (SIGSTOP), so it has a time limit and several tries.
        argv = ["timeout", "--signal=KILL", "5", *self._setpriv(), "sh", "-c", "kill -KILL -1; :"]
        for _ in range(KILL_TRIES - 1):
            with suppress(CommandFailed):
                _run(argv)
                return
        _run(argv)


@contextmanager
def sandbox(purpose: str, patience: float) -> Iterator[Sandbox]:
    """An empty sandbox, for one process at a time. Files of a killed process are removed first.

    :param patience: seconds to wait for another process.
    :raises Busy: another process uses the sandbox.
    """
    folder = SANDBOXES / purpose
    with lock(SANDBOXES / f"{purpose}.lock", patience):
        box = Sandbox(_create_user(purpose), folder)
        try:
            _remove_sandbox(box, folder)
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
            _remove_sandbox(box, folder)


def _remove_sandbox(box: Sandbox, folder: Path) -> None:
    box.kill_processes()
    remove_trees(folder)


def _create_user(purpose: str) -> str:
    """Create the system user of a purpose unless it exists; its name, which no app can have."""
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
