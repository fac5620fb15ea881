"""The output of a run: what changed and why, task by task."""

from __future__ import annotations

DOCUMENTATION = """
name: flaskfleet
type: stdout
short_description: What a run changes and why, and nothing else
description:
  - Shows a task if it changes something, fails, or takes longer than two seconds, with what it changed on which hosts.
  - Hosts on which the same changed, differences of C(--diff) included, are shown together.
  - Names the hosts that a task still waits for, every 30 seconds.
  - With C(-v) it is the callback C(ansible.builtin.default), which shows everything.
extends_documentation_fragment: [default_callback, result_format_callback]
author: flaskfleet
"""

import sys
import time
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as Everything
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import outcomes
from plugin_utils.screen import Screen


class CallbackModule(Everything):
    """Translates Ansible's events for the screen."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "flaskfleet"

    def __init__(self) -> None:
        super().__init__()
        self.started = time.monotonic()
        self.screen = Screen(lambda text, color: self._display.display(text, color=color), C.COLOR_CHANGED, C.COLOR_OK)
        self.diffs: dict[str, str] = {}  # by host

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Begin a play."""
        self._play = play
        self.screen.start_play(f"{play.get_name().strip()}{' (check mode)' if play.check_mode else ''}")

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Show that the run ends."""
        self.screen.end_task()
        self.screen.show("\nNo host is left: the run ends here.", C.COLOR_ERROR)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Begin a task."""
        self.screen.start_task(task.get_name().strip())

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Begin a handler like a task."""
        self.screen.start_task(task.get_name().strip())

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Begin a task on a host."""
        self.screen.start_host(host.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        """Keep what changed; show what the task reports."""
        self._end_host(result)
        if not _is_loop(result):
            self._show_or_keep(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Show nothing."""
        self._end_host(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Show why the task failed."""
        self._end_host(result)
        if not _is_loop(result):
            self._show_failure("failed", result, ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Show that the host does not answer."""
        self._end_host(result)
        self._show_failure("unreachable", result, result.task.ignore_unreachable)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Keep what changed of an item."""
        self._show_or_keep(result, f"{self._get_item_label(result.result)}")

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Show why an item failed."""
        self._show_failure("failed", result, result.task.ignore_errors, f" ({self._get_item_label(result.result)})")

    def v2_on_file_diff(self, result: Any) -> None:
        """Keep the difference until the changes of its host are kept."""
        diffs = [one.get("diff") for one in result.result.get("results", [result.result]) if one.get("changed")]
        self.diffs[self.host_label(result)] = "".join(self._get_diff(diff) for diff in diffs if diff)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Show the recap and the duration."""
        self.screen.end_task()
        super().v2_playbook_on_stats(stats)
        self._display.display(f"The run took {outcomes.duration(time.monotonic() - self.started)}.")

    def _show_nothing(self, *_: Any) -> None:
        pass

    # A play for no host; an include, whose tasks follow; a retry, because a task that takes long is shown.
    v2_playbook_on_no_hosts_matched = v2_playbook_on_include = v2_runner_retry = _show_nothing
    v2_runner_item_on_skipped = _show_nothing

    def _end_host(self, result: Any) -> None:
        self.screen.end_host(result.host.get_name())
        self._handle_warnings(result.result)

    def _show_or_keep(self, result: Any, item: str = "") -> None:
        if result.task.action.rpartition(".")[2] == "debug":
            lines = outcomes.report(result.result, result.task.args.get("var"))
            self.screen.show_report("" if result.task.run_once else self.host_label(result), lines)
        elif result.result.get("changed"):
            host, lines = self.host_label(result), outcomes.changes(result.result)
            if item and not any(line.startswith(item) for line in lines):
                lines.insert(0, item)
            self.screen.add_change(host, [*lines, *self.diffs.pop(host, "").splitlines()])

    def _show_failure(self, title: str, result: Any, is_ignored: bool | None, item: str = "") -> None:
        title += ", ignored" if is_ignored else ""
        color = C.COLOR_WARN if is_ignored else C.COLOR_ERROR
        self.screen.show_failure(f"{title}: {self.host_label(result)}{item}", outcomes.failure(result.result), color)


def _is_loop(result: Any) -> bool:
    """Whether the items have been shown already."""
    return bool(result.task.loop) and "results" in result.result


if Display().verbosity:
    CallbackModule = Everything  # type: ignore[misc]
