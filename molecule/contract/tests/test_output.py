"""A run's output as ansible.cfg sets it: what changed, in a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT

YELLOW = "\x1b[0;33m"
PLAY = """
- name: Hosts
  hosts: all
  gather_facts: false
  connection: local
  tasks:
    - name: Check | Check something
      ansible.builtin.command: {argv: ["true"]}
      changed_when: false

    - name: Create | Create a folder
      ansible.builtin.file: {path: "{{ folder }}", state: directory, mode: "0755"}
      loop: [one, two]
      when: inventory_hostname == 'b' or item == 'one'
      changed_when: true

    - name: Report | Report each host
      ansible.builtin.debug: {msg: "{{ inventory_hostname }} is well"}

    - name: Report | Report the end
      ansible.builtin.debug: {msg: "done\\nall of it"}
      run_once: true
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "play.yml").write_text(PLAY)
    return ["ansible-playbook", str(tmp_path / "play.yml"), "-i", "a,b", "-e", f"folder={tmp_path}"]


ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "ANSIBLE_NOCOLOR")} | {
    "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "TERM": "xterm",
}  # fmt: skip


def piped(*command: str) -> str:
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "Callback" not in run.stderr  # Ansible only warns of one that fails
    return run.stdout


def on_a_terminal(*command: str, **environment: str) -> str:
    """What a run shows on a terminal."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(command, env=ENVIRONMENT | environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(ours)
    assert run.wait() == 0, shown
    return shown.decode().replace("\r\n", "\n")


def test_a_run_shows_what_changed_and_nothing_else(command: list[str]) -> None:
    shown = piped(*command)
    # A busy machine adds how long a task took.
    lines = [line for line in shown.partition("PLAY RECAP")[0].splitlines() if " took " not in f" {line.strip()}"]
    assert (
        lines[:6]
        == [
            "",
            "Hosts",
            *([line] if (line := "  Check | Check something") in lines else []),
            "  Create | Create a folder",
            "    changed: a, b",
            "      one",
            "    changed: b",
        ][:6]
    )
    assert lines[-9:-4] == [
        "  Report | Report each host", "    a", "      a is well", "    b", "      b is well",
    ]  # fmt: skip
    assert lines[-4:] == ["  Report | Report the end", "    done", "    all of it", ""]
    assert "The run took" in shown


def test_a_run_in_check_mode_says_so(command: list[str]) -> None:
    assert "Hosts (check mode)" in piped(*command, "--check")


def test_with_v_a_run_shows_everything(command: list[str]) -> None:
    shown = piped(*command, "-v")
    assert "TASK [Check | Check something]" in shown
    assert "ok: [a]" in shown


def test_colours_are_for_terminals(command: list[str]) -> None:
    assert "\x1b" not in piped(*command)
    assert f"{YELLOW}    changed: a, b" in on_a_terminal(*command, ANSIBLE_FORCE_COLOR="")


def test_no_color_is_heeded(command: list[str]) -> None:
    assert "\x1b" not in on_a_terminal(*command, ANSIBLE_FORCE_COLOR="", NO_COLOR="1")
