"""The lock of an app on a host: the exclusive right to roll the app out.

The lock's holder is a run of a playbook, known by the token of its process. The holder's record is below /run, because
a reboot of the host ends a rollout::

    /run/flaskfleet/<app>.rollout.json
        process, by     the holder's token (plugin_utils/run_identity.py), and the user who runs the playbook
        what            deploy, rollback, restart, rollout or first release
        since, renewed  when the lock was acquired, and when the holder's last phase began
        target, before  the release to switch to and the one that was live before, as soon as they are known
        log, said       where nginx's log and the release's log ended at the switch
        interrupted     what, target and before of a rollout that had a target when its lock was broken

Each step on the host also holds a flock while it runs. A step whose controller is gone runs to its end, and the next
holder waits for that end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .files import Busy, lock, read_json, write_json
from .journal import now
from .paths import ReleaseFailed

PATIENCE_SECONDS = 120  # for another step on the same host
Record = dict[str, Any]


class Locked(ReleaseFailed):
    """Another run holds the lock. ``holder`` is its record."""

    def __init__(self, app: str, holder: Record) -> None:
        self.holder = holder
        renewed = f", last renewed at {holder['renewed']}" if "renewed" in holder else ""
        super().__init__(
            f"{app}: a {holder['what']} by {holder['by']} has held the lock since {holder['since']}{renewed}; wait "
            "until it has ended or, if its controller is gone, break the lock with playbooks/unlock.yml "
            """-e "reason='<why>'\""""
        )


class RolloutLock:
    """The lock of one app.

    :param app: its name, for messages. ``record_file``: the holder's record. ``step_file``: the lock of a step.
    """

    def __init__(self, app: str, record_file: Path, step_file: Path) -> None:
        self.app = app
        self.record_file = record_file
        self.step_file = step_file

    def record(self) -> Record:
        """The holder's record; empty if the lock is free."""
        return read_json(self.record_file) or {}

    def is_held_by(self, *processes: str) -> bool:
        """Whether one of these processes holds the lock."""
        return self.record().get("process") in processes

    def check(self, *processes: str) -> None:
        """Check that the lock is free or held by one of these processes.

        :raises Locked: another process does.
        """
        holder = self.record()
        if holder and holder["process"] not in processes:
            raise Locked(self.app, holder)

    def acquire(self, holder: Record, break_lock: bool = False) -> Record:
        """Acquire the lock, or change the record if the holder has it already.

        :param holder: ``process``, ``by`` and ``what``, maybe ``target`` and ``before``.
        :param break_lock: acquire it from another holder, too.
        :returns: the new record.
        :raises Locked: another process holds the lock.
        """
        if not break_lock:
            self.check(holder["process"])
        old = self.record()
        has_it = old.get("process") == holder["process"]
        interrupted = old.get("interrupted")
        if not has_it and old.get("target"):
            interrupted = {name: old.get(name) for name in ("what", "target", "before")}
        record = {**holder, "since": old["since"] if has_it else now(), "renewed": now(), "interrupted": interrupted}
        self.record_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.record_file, record)
        return record

    def renew(self, process: str, **further: Any) -> Record:
        """The holder's record, renewed and with ``further`` keys.

        :raises ReleaseFailed: this process does not hold the lock any more.
        """
        record = self.record()
        if record.get("process") != process:
            reason = (
                f"{record['by']} holds it now; run the playbook again when that has ended"
                if record
                else "it was broken (see /var/log/flaskfleet.log), or the host was rebooted; run the playbook again"
            )
            raise ReleaseFailed(f"{self.app}: this run has lost the lock: {reason}")
        record |= {"renewed": now(), **further}
        write_json(self.record_file, record)
        return record

    def restore_interrupted(self) -> bool:
        """Restore the record of an interrupted rollout if this rollout has no target yet; whether it did.

        The next holder then finds the rollout as interrupted, as this holder did.
        """
        record = self.record()
        if not record.get("interrupted") or record.get("target"):
            return False
        write_json(self.record_file, {**record, **record["interrupted"], "interrupted": None})
        return True

    def release(self) -> None:
        """Release the lock, whichever process holds it."""
        self.record_file.unlink(missing_ok=True)

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """Run one step at a time on this host.

        :raises ReleaseFailed: another step has not ended in time.
        """
        try:
            with lock(self.step_file, PATIENCE_SECONDS):
                yield
        except Busy as busy:
            raise ReleaseFailed(
                f"{self.app}: process {busy} on this host has not ended its step within {PATIENCE_SECONDS} seconds; "
                "run the playbook again when it has"
            ) from None
