"""One run holds an app's lock, until it releases it, the lock is broken or the host is rebooted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet import (
    rollout_lock,
)
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.files import write_json
from ansible.module_utils.flaskfleet.paths import ReleaseFailed
from ansible.module_utils.flaskfleet.rollout_lock import Locked, RolloutLock
from conftest import Clock
from examples import ME, A, B

LAPTOP, DESKTOP = "laptop 1", "desktop 1"
HOLDER = {"process": LAPTOP, "by": ME, "what": "deploy", "target": B}
OTHER = {**HOLDER, "process": DESKTOP, "by": "you@desktop"}


def make_lock(host: Path, app: str = "blog") -> RolloutLock:
    return RolloutLock(app, host / "run" / f"{app}.rollout.json", host / "lib" / f"{app}.lock")


@pytest.fixture
def lock(host: Path) -> RolloutLock:
    """A lock that nobody holds."""
    return make_lock(host)


def test_a_lock_is_held_since_a_time(lock: RolloutLock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_lock, "now", lambda: "2026-11-22T17:30:00Z")
    lock.acquire(HOLDER)
    monkeypatch.setattr(rollout_lock, "now", lambda: "2026-11-22T17:31:00Z")
    assert lock.renew(LAPTOP) == lock.record() == {
        **HOLDER, "since": "2026-11-22T17:30:00Z", "renewed": "2026-11-22T17:31:00Z", "interrupted": None,
    }  # fmt: skip


def test_a_reboot_releases_the_lock(host: Path) -> None:
    assert App("blog", None, host).rollout_lock.record_file == host / "run/flaskfleet/blog.rollout.json"


def test_a_second_holder_is_refused_with_the_first_one(lock: RolloutLock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_lock, "now", lambda: "2026-11-22T17:30:00Z")
    lock.acquire(HOLDER)
    with pytest.raises(Locked) as refused:
        lock.acquire(OTHER)
    assert str(refused.value) == (
        "blog: a deploy by me@laptop has held the lock since 2026-11-22T17:30:00Z, last renewed at "
        "2026-11-22T17:30:00Z; wait until it has ended or, if its controller is gone, break the lock with "
        """playbooks/unlock.yml -e "reason='<why>'\""""
    )
    assert refused.value.holder == lock.record()
    assert lock.is_held_by(LAPTOP)


def test_the_holder_and_those_that_are_gone_pass_the_check(lock: RolloutLock) -> None:
    lock.check(DESKTOP)
    lock.acquire(HOLDER)
    lock.check(LAPTOP)
    lock.check(DESKTOP, LAPTOP)
    with pytest.raises(Locked):
        lock.check(DESKTOP)


def test_a_record_that_was_never_renewed_can_be_told(lock: RolloutLock) -> None:
    """An earlier version wrote it."""
    lock.record_file.parent.mkdir()
    write_json(lock.record_file, {**HOLDER, "since": "2026-11-22T17:30:00Z"})
    with pytest.raises(Locked, match="has held the lock since 2026-11-22T17:30:00Z; wait until"):
        lock.check(DESKTOP)


@pytest.mark.parametrize("target", [None, B], ids=["before its switch", "after it"])
def test_the_release_of_an_interrupted_rollout_is_known_to_each_next_holder(
    lock: RolloutLock, target: str | None
) -> None:
    interrupted = {"what": "deploy", "target": target, "before": A} if target else None
    lock.acquire({**HOLDER, "target": target, "before": A})
    for _ in range(2):
        lock.acquire({**OTHER, "target": None}, break_lock=True)
        assert lock.record()["interrupted"] == interrupted


def test_a_holder_without_a_target_restores_the_interrupted_rollout(lock: RolloutLock) -> None:
    lock.acquire({**HOLDER, "before": A})
    lock.acquire({**OTHER, "target": None}, break_lock=True)
    assert lock.restore_interrupted()
    record = lock.record()
    assert (record["process"], record["target"], record["before"]) == (DESKTOP, B, A)


@pytest.mark.parametrize("holder", [HOLDER, {**HOLDER, "target": None}], ids=["a target", "nothing was interrupted"])
def test_without_an_interrupted_rollout_nothing_is_restored(lock: RolloutLock, holder: dict[str, str]) -> None:
    record = lock.acquire(holder)
    assert not lock.restore_interrupted()
    assert lock.record() == record


def test_a_holder_may_acquire_its_lock_again(lock: RolloutLock) -> None:
    lock.acquire(HOLDER)
    lock.acquire({**HOLDER, "target": f"{A}.1"})
    assert lock.renew(LAPTOP)["target"] == f"{A}.1"


def test_a_released_lock_can_be_acquired_by_another_run(lock: RolloutLock) -> None:
    lock.acquire(HOLDER)
    for _ in range(2):
        lock.release()
    lock.acquire(OTHER)


@pytest.mark.parametrize(
    ("lose", "words"),
    [
        (
            lambda lock: lock.release(),
            r"it was broken \(see /var/log/flaskfleet\.log\), or the host was rebooted; run the playbook again",
        ),
        (
            lambda lock: lock.acquire(OTHER, break_lock=True),
            "you@desktop holds it now; run the playbook again when that has ended",
        ),
    ],
    ids=["released", "another holder"],
)
def test_a_lock_that_was_lost_is_not_renewed(
    lock: RolloutLock, lose: Callable[[RolloutLock], object], words: str
) -> None:
    lock.acquire(HOLDER)
    lose(lock)
    with pytest.raises(ReleaseFailed, match=f"^blog: this run has lost the lock: {words}$"):
        lock.renew(LAPTOP)


def test_two_apps_have_a_lock_each(lock: RolloutLock, host: Path) -> None:
    lock.acquire(HOLDER)
    make_lock(host, "shop").acquire(OTHER)
    assert lock.renew(LAPTOP)


# one step at a time


def test_a_second_step_is_refused_with_the_first_ones_pid(lock: RolloutLock, clock: Clock) -> None:
    refusal = f"^blog: process {os.getpid()} on this host has not ended its step within 120 seconds; run"
    with lock.one_step(), pytest.raises(ReleaseFailed, match=refusal), lock.one_step():
        pytest.fail("two steps run")
    assert clock.passed == pytest.approx(rollout_lock.PATIENCE_SECONDS, abs=1)


def test_a_second_step_waits_for_the_first(lock: RolloutLock, clock: Clock) -> None:
    """A controller that is gone has left its step on the host; that runs to its end."""
    first = lock.one_step()
    first.__enter__()
    clock.at[100] = lambda: first.__exit__(None, None, None)
    with lock.one_step():
        assert clock.passed == pytest.approx(100, abs=1)


def test_the_next_step_need_not_wait_after_a_step(lock: RolloutLock, clock: Clock) -> None:
    for _ in range(2):
        with lock.one_step():
            assert lock.step_file.read_text() == str(os.getpid())
    assert clock.passed == 0


def test_steps_of_two_apps_run_at_a_time(lock: RolloutLock, host: Path, clock: Clock) -> None:
    with lock.one_step(), make_lock(host, "shop").one_step():
        assert clock.passed == 0


def test_a_step_ends_with_its_process(lock: RolloutLock, clock: Clock) -> None:
    lock.step_file.parent.mkdir()
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock.step_file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(ReleaseFailed), lock.one_step():
            pytest.fail("two steps run")
        holder.kill()
    with lock.one_step():
        pass
