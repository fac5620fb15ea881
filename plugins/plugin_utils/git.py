"""The git command line: resolving a version to a commit, and checking it out with its submodules."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .source_errors import SourceError, redact

TIME_LIMIT_SECONDS = 600  # of one command
GIT_URL = re.compile(
    r"https://[A-Za-z0-9\[][^\s/@]*/\S+"
    r"|ssh://(?!-)([\w.~-]+@)?[A-Za-z0-9\[][^\s@]*/\S+"
    r"|(?!-)[\w.~-]+@[A-Za-z0-9][\w.-]*:(?!-)\S+"
    r"|(file://)?/[^\n\0]+"
)
VERSION = re.compile(r"(?!-)(?!.*(\.\.|@\{))[^\s\0~^:?*\[\\]+")  # git-check-ref-format(1)
COMMIT = re.compile(r"[0-9a-f]{40}")
# Variables that git sets for its hooks (git rev-parse --local-env-vars): they name another repository.
REPOSITORY_VARIABLES = {
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX",
}  # fmt: skip
# gitcredentials(7): the password comes from the environment, so that it is in no command line and in no file.
CREDENTIALS = r"""!f() { printf 'username=%s\npassword=%s\n' "$FLASKFLEET_GIT_USER" "$FLASKFLEET_GIT_PASSWORD"; }; f"""


class Git:
    """The git command line for one url; it never prompts. ``repository`` is the folder for what is fetched."""

    def __init__(self, url: str, repository: Path) -> None:
        self.url = redact(url)
        self.repository = repository
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in REPOSITORY_VARIABLES},
            "GIT_TERMINAL_PROMPT": "0",
            "SSH_ASKPASS": "",
            # A remote repository can't have submodules that are files of this machine.
            "GIT_ALLOW_PROTOCOL": "file:https:ssh" if url.startswith(("/", "file://")) else "https:ssh",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repository / "objects"),
        }
        config = [
            ("core.hooksPath", os.devnull),
            ("gc.autoDetach", "false"),  # so that it ends before the lock is released
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
        ]
        login, _, host = urlsplit(url).netloc.rpartition("@") if url.startswith("https://") else ("", "", "")
        if login:
            user, _, password = login.partition(":")
            self.environment |= {"FLASKFLEET_GIT_USER": unquote(user), "FLASKFLEET_GIT_PASSWORD": unquote(password)}
            config += [(f"credential.https://{host}.helper", helper) for helper in ("", CREDENTIALS)]
        first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
        for number, (name, value) in enumerate(config, first):
            self.environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        self.environment["GIT_CONFIG_COUNT"] = str(first + len(config))
        ssh = self.environment.get("GIT_SSH_COMMAND") or self("config", "--default", "ssh", "--get", "core.sshCommand")
        self.environment["GIT_SSH_COMMAND"] = f"{ssh.strip()} -o BatchMode=yes -o ConnectTimeout=30"

    def __call__(self, *arguments: str) -> str:
        """Run git; returns what it prints.

        :raises SourceError: git fails, is not installed, or takes too long; its children are killed, too.
        """
        try:
            process = subprocess.Popen(
                ["git", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SourceError(
                f"{self.url!r} needs git, and there is none on the controller's PATH; install it (apt install git)"
            ) from error
        with process:
            try:
                output, words = process.communicate(timeout=TIME_LIMIT_SECONDS)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                output, words = "", f"nothing in {TIME_LIMIT_SECONDS} seconds"
        if process.returncode:
            raise SourceError(
                f"{self.url!r} can't be fetched, git says: {redact(' '.join(words.split()))}; "
                "this machine must be able to read it, and its submodules, without being asked anything"
            )
        return output


def resolve(git: Git, version: str) -> str:
    """The commit that a version is now. The repository then has all objects that a checkout needs."""
    for left_over in git.repository.rglob("*.lock"):  # of a killed git; this run has the folder's lock
        left_over.unlink()
    git("init", "--quiet", "--bare", "--template=", str(git.repository))
    commit = _find_commit(git, version) if COMMIT.fullmatch(version) else None
    if not commit:
        everything = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        options = ("--quiet", "--prune", "--no-write-fetch-head")
        git(f"--git-dir={git.repository}", "fetch", *options, git.url, *everything)
        commit = _find_commit(git, version)
    if not commit:
        raise SourceError(
            f"{git.url!r} has no branch, tag or commit {version!r}; push it, or see what there is: "
            f"git ls-remote {git.url}"
        )
    return commit


def _find_commit(git: Git, version: str) -> str | None:
    """The commit of a version, or None. A branch wins over a tag, as in ``git clone --branch``."""
    names = [] if COMMIT.fullmatch(version) else [f"refs/heads/{version}", f"refs/tags/{version}"]
    for name in [*names, version] if re.fullmatch(r"[0-9a-f]{7,40}", version) else names:
        with suppress(SourceError):
            arguments = ("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
            return git(f"--git-dir={git.repository}", *arguments).strip()
    return None


def check_out(git: Git, commit: str, folder: Path) -> None:
    """Write the files of a commit and of its submodules to a folder."""
    git("init", "--quiet", "--template=", str(folder))
    git("-C", str(folder), "remote", "add", "origin", git.url)  # a submodule's url may be relative to it
    git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    if (folder / ".gitmodules").exists():
        git("-C", str(folder), "submodule", "--quiet", "update", "--init", "--recursive")
    for path in list(folder.rglob(".git")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
