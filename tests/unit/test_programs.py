"""Supervisor's programs are added, started, stopped and removed by name, without touching others."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from xmlrpc.client import Fault

import pytest
from ansible.module_utils.flaskfleet.programs import (
    NICENESS,
    POLL_SECONDS,
    SUPERVISOR_SECONDS,
    Programs,
    lower_priority,
)
from conftest import Clock
from supervisor import State, Supervisor

STOPPING = ("STOPPING", 4711)


@pytest.fixture(autouse=True)
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The groups that were killed, with the signal."""
    groups: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: groups.append((group, number)))
    return groups


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    """A Supervisor that may run the programs a and b, b with two processes."""
    for program in ("a", "b"):
        (tmp_path / f"{program}.conf").write_text(f"[program:{program}]\nnumprocs = {1 if program == 'a' else 2}\n")
    return Supervisor(tmp_path)


@pytest.fixture
def programs(supervisor: Supervisor, clock: Clock) -> Programs:
    return Programs(supervisor)


def calls(supervisor: Supervisor, method: str) -> list[str]:
    """The programs that a method was called for."""
    return [call.partition(" ")[2] for call in supervisor.calls if call.startswith(f"{method} ")]


# state


def test_programs_are_known_whatever_their_state(programs: Programs, supervisor: Supervisor) -> None:
    supervisor.run("a", ("FATAL", 0))
    supervisor.run("b")
    assert programs.known() == {"a", "b"}


def test_a_program_has_its_own_processes(programs: Programs, supervisor: Supervisor) -> None:
    for program in ("a", "b"):
        programs.start(program)
    assert [process["name"] for process in programs.processes("b")] == ["b-0", "b-1"]
    assert programs.processes("c") == []


@pytest.mark.parametrize(
    ("states", "running"),
    [
        (["RUNNING"], True),
        (["STARTING"], True),
        (["RUNNING", "STARTING"], True),
        (["RUNNING", "EXITED"], False),
        *(([state], False) for state in ("STOPPED", "EXITED", "FATAL", "BACKOFF", "STOPPING", "UNKNOWN")),
        ([], False),
    ],
)
def test_a_program_runs_when_all_its_processes_do(
    programs: Programs, supervisor: Supervisor, states: list[str], running: bool
) -> None:
    supervisor.programs["a"] = [[(state, 1)] for state in states]
    assert programs.is_running("a") == running


# started


def test_a_start_touches_no_other_program(programs: Programs, supervisor: Supervisor) -> None:
    supervisor.run("b", ("STOPPED", 0))
    programs.start("a")
    assert supervisor.states() == {"a": "RUNNING", "b": "STOPPED"}
    assert supervisor.calls == ["reloadConfig", "addProcessGroup a", "startProcessGroup a"]


def test_a_program_that_runs_is_not_started_again(programs: Programs, supervisor: Supervisor) -> None:
    for _ in range(2):
        programs.start("a")
    assert calls(supervisor, "startProcessGroup") == ["a"]


def test_a_program_that_has_ended_is_started_again(programs: Programs, supervisor: Supervisor) -> None:
    supervisor.run("a", ("EXITED", 0))
    programs.start("a")
    assert supervisor.states() == {"a": "RUNNING"}


def test_a_program_that_does_not_start_at_once_is_started_again(programs: Programs, supervisor: Supervisor) -> None:
    supervisor.life = [("BACKOFF", 0)]

    def second(program: str) -> None:
        if len(calls(supervisor, "startProcessGroup")) == 2:
            supervisor.life = [("RUNNING", 4711)]

    supervisor.on_start = second
    programs.start("a")
    assert calls(supervisor, "startProcessGroup") == ["a", "a"]


def test_a_program_that_never_starts_is_waited_for_a_while(
    programs: Programs, supervisor: Supervisor, clock: Clock
) -> None:
    supervisor.life = [("BACKOFF", 0)]
    programs.start("a")
    assert clock.passed == pytest.approx(SUPERVISOR_SECONDS, abs=2 * POLL_SECONDS)


def test_a_start_that_supervisor_refuses_is_tried_again(programs: Programs, supervisor: Supervisor) -> None:
    """It may be starting the program by itself."""
    faults = [Fault(60, "ALREADY_STARTED")]

    def refuse(program: str) -> None:
        if faults:
            raise faults.pop()

    supervisor.on_start = refuse
    programs.start("a")
    assert supervisor.states() == {"a": "RUNNING"}


@pytest.mark.parametrize(
    ("program", "content", "fault"), [("c", "", "BAD_NAME"), ("a", "not a section", "CANT_REREAD")]
)
def test_a_start_without_a_readable_file_is_a_fault(
    programs: Programs, tmp_path: Path, program: str, content: str, fault: str
) -> None:
    (tmp_path / "a.conf").write_text(content)
    with pytest.raises(Fault, match=fault):
        programs.start(program)


# settled


@pytest.mark.parametrize(
    ("life", "settled"),
    [
        ([("RUNNING", 1)], True),
        ([("STARTING", 1), ("STARTING", 1), ("RUNNING", 1)], True),
        ([("STARTING", 1), ("BACKOFF", 0)], False),
        ([("STARTING", 1), ("EXITED", 0)], False),
        ([("FATAL", 0)], False),
        ([("STOPPED", 0)], False),
    ],
    ids=["it runs", "it starts", "it fails", "it ends", "it failed", "it is stopped"],
)
def test_a_program_settles_when_it_stays_up(
    programs: Programs, supervisor: Supervisor, life: list[State], settled: bool
) -> None:
    supervisor.run("a", *life)
    assert programs.settle("a", 5) == settled


def test_a_program_that_starts_forever_does_not_settle(
    programs: Programs, supervisor: Supervisor, clock: Clock
) -> None:
    supervisor.run("a", ("STARTING", 1))
    assert not programs.settle("a", 5)
    assert clock.passed == pytest.approx(5, abs=2 * POLL_SECONDS)


def test_a_program_of_which_one_process_fails_does_not_settle(programs: Programs, supervisor: Supervisor) -> None:
    supervisor.programs["b"] = [[("RUNNING", 1)], [("FATAL", 0)]]
    assert not programs.settle("b", 5)


# stopped


def test_a_stopped_program_is_removed(programs: Programs, supervisor: Supervisor) -> None:
    for program in ("a", "b", "c"):
        supervisor.run(program)
    programs.stop(["a", "b"], 30)
    assert supervisor.states() == {"c": "RUNNING"}


def test_programs_are_stopped_at_the_same_time(programs: Programs, supervisor: Supervisor, clock: Clock) -> None:
    for program in ("a", "b"):
        supervisor.run(program)
    supervisor.end = [STOPPING, STOPPING, ("STOPPED", 0)]
    stopped_at = []
    supervisor.on_stop = lambda program: stopped_at.append(clock.passed)
    programs.stop(["a", "b"], 30)
    assert (stopped_at, supervisor.states()) == ([0, 0], {})


def test_stop_waits_for_a_slow_program(programs: Programs, supervisor: Supervisor, clock: Clock) -> None:
    supervisor.run("a")
    supervisor.end = [STOPPING]
    clock.at[29] = lambda: supervisor.run("a", ("STOPPED", 0))
    programs.stop(["a"], 30)
    assert clock.passed == pytest.approx(29, abs=2 * POLL_SECONDS)


def test_a_program_that_never_ends_is_a_fault_in_the_end(
    programs: Programs, supervisor: Supervisor, clock: Clock
) -> None:
    supervisor.run("a")
    supervisor.end = [STOPPING]
    with pytest.raises(Fault, match="STILL_RUNNING"):
        programs.stop(["a"], 30)
    assert clock.passed == pytest.approx(30 + 2 * SUPERVISOR_SECONDS, abs=1)


@pytest.mark.parametrize("names", [[], ["unknown"]])
def test_stopping_an_unknown_program_does_nothing(programs: Programs, clock: Clock, names: list[str]) -> None:
    programs.stop(names, 30)
    assert clock.passed == 0


# killed


def test_a_kill_ends_the_group_of_each_process_and_removes_the_program(
    programs: Programs, supervisor: Supervisor, killed: list[tuple[int, int]]
) -> None:
    programs.start("b")
    programs.kill("b")
    assert (killed, supervisor.states()) == ([(4711, signal.SIGKILL), (4712, signal.SIGKILL)], {})


def test_a_kill_does_not_wait_for_a_graceful_end(
    programs: Programs, supervisor: Supervisor, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.run("a")
    supervisor.end = [STOPPING]
    monkeypatch.setattr(os, "killpg", lambda *_: supervisor.run("a", ("STOPPED", 0)))
    programs.kill("a")
    assert (supervisor.states(), clock.passed) == ({}, 0)


@pytest.mark.parametrize("state", ["STOPPED", "EXITED", "FATAL"])
def test_a_program_that_has_ended_is_removed_without_a_kill(
    programs: Programs, supervisor: Supervisor, state: str, killed: list[tuple[int, int]]
) -> None:
    supervisor.run("a", (state, 0))
    programs.kill("a")
    assert (supervisor.states(), killed, calls(supervisor, "stopProcessGroup")) == ({}, [], [])


def test_a_program_that_ends_before_the_kill_is_removed(
    programs: Programs, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killpg(*_: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "killpg", killpg)
    supervisor.run("a")
    programs.kill("a")
    assert supervisor.states() == {}


def test_an_unknown_program_needs_no_kill(programs: Programs, killed: list[tuple[int, int]]) -> None:
    programs.kill("unknown")
    assert killed == []


@pytest.mark.parametrize("end", [lambda programs: programs.stop(["a"], 30), lambda programs: programs.kill("a")])
def test_a_killed_program_can_be_started_again(
    programs: Programs, supervisor: Supervisor, end: Callable[[Programs], object]
) -> None:
    for _ in range(2):
        programs.start("a")
        end(programs)
    assert calls(supervisor, "startProcessGroup") == ["a", "a"]


# priority


def test_only_the_process_group_gets_a_lower_priority() -> None:
    with subprocess.Popen(["sleep", "60"], process_group=0) as one, subprocess.Popen(["sleep", "60"]) as other:
        try:
            lower_priority([one.pid], os.getuid())
            assert [os.getpriority(os.PRIO_PROCESS, process.pid) for process in (one, other)] == [
                NICENESS, os.getpriority(os.PRIO_PROCESS, 0)
            ]  # fmt: skip
        finally:
            one.kill()
            other.kill()


def test_a_process_group_that_has_ended_is_no_error() -> None:
    with subprocess.Popen(["true"], process_group=0) as process:
        pass
    lower_priority([process.pid], os.getuid())
