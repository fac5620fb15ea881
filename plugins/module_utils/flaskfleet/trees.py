"""A config tree: compare it with the host, stage and check it, move it into place.

The state of a config tree lies in one folder (``/var/lib/flaskfleet/trees/<name>``)::

    manifest.json   {"tree": hash, "running": the option `running` of config_tree, or null,
                     "service": the service that reads the tree, or null,
                     "files": {path: {"sha256", "mode", "owner", "group"}}}
    journal.json    what an apply is about to do; exists only during the apply
    applied.json    the hash that handlers have applied, if the service does not report one
    stage/          the complete new tree, below the same paths as on the host

The next apply finishes an interrupted one from its journal, so a host never keeps half a tree.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import fsync_path, group_id, read_json, user_id, write_file, write_json
from .services import running_tree


class CheckFailed(Exception):
    """The service's checker refused the staged tree; the message has the checker's output."""


@dataclass(frozen=True)
class File:
    """One file of a config tree. ``path`` is absolute, ``mode`` like ``"0644"``."""

    path: str
    content: str
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"

    @property
    def record(self) -> dict[str, str]:
        """The file's entry in the manifest."""
        return {
            "sha256": hashlib.sha256(self.content.encode()).hexdigest(),
            "mode": self.mode,
            "owner": self.owner,
            "group": self.group,
        }


@dataclass
class Changes:
    """The differences between a host and a config tree."""

    write: list[File] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    finished: bool = False  # whether an interrupted apply was finished first

    def __bool__(self) -> bool:
        return bool(self.write or self.remove)


class Tree:
    """A config tree. Its files lie below ``root``, its records below ``state``."""

    def __init__(self, name: str, state: Path, root: Path = Path("/")) -> None:
        self.root = root
        self.state = state / name
        self.stage = self.state / "stage"
        self.journal = self.state / "journal.json"
        self.manifest = self.state / "manifest.json"
        self.applied = self.state / "applied.json"

    def target(self, path: str) -> Path:
        """The path on this host."""
        return self.root / path.lstrip("/")

    def compare(self, files: list[File]) -> Changes:
        """The changes that bring the host to these files; files of an earlier tree are removed."""
        changes = Changes()
        for file in files:
            before, after = self._read_content(file.path), file.content.encode()
            if before != after:
                changes.diff += _diff(file.path, file.mode, before, after)
            if before != after or not self._has_owner_and_mode(file):
                changes.write.append(file)
        wanted = {file.path for file in files}
        for path, record in (read_json(self.manifest) or {"files": {}})["files"].items():
            if path not in wanted and os.path.lexists(self.target(path)):
                changes.remove.append(path)
                changes.diff += _diff(path, record["mode"], self._read_content(path), None)
        return changes

    def check(self, files: list[File], command: list[str]) -> None:
        """Stage the complete tree and run the service's checker on it.

        ``{stage}`` in the command stands for the folder of the staged tree.

        :raises CheckFailed: the checker refused; the stage is removed, the host is unchanged.
        :raises KeyError: there is no such owner or group.
        """
        shutil.rmtree(self.stage, ignore_errors=True)
        for file in files:
            staged = self.stage / file.path.lstrip("/")
            staged.parent.mkdir(parents=True, exist_ok=True)
            write_file(staged, file.content.encode(), int(file.mode, 8), user_id(file.owner), group_id(file.group))
        if not command:
            return
        argv = [word.replace("{stage}", str(self.stage)) for word in command]
        # nginx -t creates missing log files; the umask keeps other users from reading them.
        result = subprocess.run(argv, capture_output=True, text=True, check=False, umask=0o027)
        if result.returncode:
            message = f"{' '.join(argv)} refused the new files, nothing was changed:\n{result.stderr}{result.stdout}"
            shutil.rmtree(self.stage)
            raise CheckFailed(message.replace(str(self.stage), "").strip())

    def apply(self, record: dict[str, Any], changes: Changes) -> None:
        """Move a checked stage into place: journal, one rename a file, then the manifest ``record``."""
        journal = {"write": [file.path for file in changes.write], "remove": changes.remove, "manifest": record}
        write_json(self.journal, journal)
        self.roll_forward()

    def roll_forward(self) -> bool:
        """Finish the apply in the journal; False if there is none."""
        journal: dict[str, Any] | None = read_json(self.journal)
        if journal is None:
            return False
        for path in journal["write"]:
            record = journal["manifest"]["files"][path]
            target = self.target(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = (self.stage / path.lstrip("/")).read_bytes()
            write_file(target, content, int(record["mode"], 8), user_id(record["owner"]), group_id(record["group"]))
        for path in journal["remove"]:
            self.target(path).unlink(missing_ok=True)
        self.applied.unlink(missing_ok=True)
        write_json(self.manifest, journal["manifest"])
        self.journal.unlink()
        fsync_path(self.state)
        shutil.rmtree(self.stage, ignore_errors=True)
        return True

    def running_hash(self, source: str) -> str | None:
        """The hash of the tree that is in effect, as the service reports it.

        :param source: ``running`` of config_tree.
        """
        return read_json(self.applied) if source == "handlers" else running_tree(source)

    def pending(self) -> bool:
        """Whether the tree on disk is not in effect yet; False if no service or handler reports that."""
        manifest = read_json(self.manifest) or {}
        return bool(manifest.get("running")) and self.running_hash(manifest["running"]) != manifest["tree"]

    def edited(self) -> list[str]:
        """The files that were edited or removed since they were written, in words."""
        problems = []
        for path, record in (read_json(self.manifest) or {"files": {}})["files"].items():
            content = self._read_content(path)
            if content is None:
                problems.append(f"{path} was removed")
            elif hashlib.sha256(content).hexdigest() != record["sha256"]:
                problems.append(f"{path} was edited")
            elif not self._has_owner_and_mode(File(path, "", record["mode"], record["owner"], record["group"])):
                problems.append(
                    f"{path} has another owner or mode than {record['owner']}:{record['group']} {record['mode']}"
                )
        return problems

    def _read_content(self, path: str) -> bytes | None:
        try:
            return self.target(path).read_bytes()
        except FileNotFoundError:
            return None

    def _has_owner_and_mode(self, file: File) -> bool:
        try:
            status = self.target(file.path).lstat()
            owner = (user_id(file.owner), group_id(file.group))
        except (KeyError, FileNotFoundError):
            return False
        return (status.st_mode, status.st_uid, status.st_gid) == (0o100000 | int(file.mode, 8), *owner)


def _diff(path: str, mode: str, before: bytes | None, after: bytes | None) -> list[dict[str, str]]:
    """The difference of a file; none of one that others may not read, because a run shows it to them."""
    if not int(mode, 8) & 0o004:
        return []
    shown = [(content or b"").decode(errors="backslashreplace") for content in (before, after)]
    return [{"before_header": path, "after_header": path, "before": shown[0], "after": shown[1]}]
