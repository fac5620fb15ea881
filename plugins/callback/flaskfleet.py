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

import atexit
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as Everything
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import outcomes

SHOWN_AFTER_SECONDS = 2
REMINDED_EVERY_SECONDS = 30


class CallbackModule(Everything):
    """Collects what a task changed and shows it when the task has ended; failures at once."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "flaskfleet"

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.run_started = self.task_started = time.monotonic()
        self.headings: dict[str, str] = {}  # of the play and the task, until they are shown
        self.is_shown = False  # the task
        self.changed: dict[str, list[str]] = {}  # hosts by what changed on them
        self.diffs: dict[str, str] = {}  # by host
        self.waiting: set[str] = set()  # for these hosts
        self.ended = threading.Event()
        atexit.register(self._end_task)  # an interrupted run shows its changes, too

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Keep the play's name until one of its tasks is shown."""
        self._end_task()
        self._play = play
        self.headings = {"play": f"\n{play.get_name().strip()}{' (check mode)' if play.check_mode else ''}"}

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Show nothing of a play that is for no host."""

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Show that the run ends."""
        self._end_task()
        self._show("\nNo host is left: the run ends here.", C.COLOR_ERROR)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Show nothing of an include, because its tasks follow."""

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Keep the task's name until there is something to show."""
        self._end_task()
        self.headings["task"] = f"  {task.get_name().strip()}"
        self.task_started, self.ended = time.monotonic(), threading.Event()
        threading.Thread(target=self._watch, args=(self.ended,), daemon=True).start()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Treat a handler as any task."""
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Remember the host as one that the task waits for."""
        with self.lock:
            self.waiting.add(host.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        """Keep what changed; show what the task reports."""
        self._has_ended(result)
        if result.task.action.rpartition(".")[2] == "debug":
            self._show(outcomes.report(result.result, result.task.args.get("var")), C.COLOR_OK)
        elif not self._is_loop(result):
            self._keep(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Show nothing."""
        self._has_ended(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Show why the task failed."""
        self._has_ended(result)
        if not self._is_loop(result):
            self._show_failure("failed", result, ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Show that the host does not answer."""
        self._has_ended(result)
        self._show_failure("unreachable", result, result.task.ignore_unreachable)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Keep what changed of an item."""
        self._keep(result, f"{self._get_item_label(result.result)}")

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Show nothing."""

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Show why an item failed."""
        self._show_failure("failed", result, result.task.ignore_errors, f" ({self._get_item_label(result.result)})")

    def v2_runner_retry(self, result: Any) -> None:
        """Show nothing of a retry: a task that waits long is shown."""

    def v2_on_file_diff(self, result: Any) -> None:
        """Keep the difference until the changes of its host are shown."""
        diffs = [one.get("diff") for one in result.result.get("results", [result.result]) if one.get("changed")]
        self.diffs[self.host_label(result)] = "".join(self._get_diff(diff) for diff in diffs if diff)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Show the recap and the duration."""
        self._end_task()
        super().v2_playbook_on_stats(stats)
        self._display.display(f"The run took {outcomes.duration(time.monotonic() - self.run_started)}.")

    @staticmethod
    def _is_loop(result: Any) -> bool:
        """Whether the items have been shown already."""
        return bool(result.task.loop) and "results" in result.result

    def _has_ended(self, result: Any) -> None:
        with self.lock:
            self.waiting.discard(result.host.get_name())
        self._handle_warnings(result.result)

    def _keep(self, result: Any, item: str = "") -> None:
        if result.result.get("changed"):
            host, lines = self.host_label(result), outcomes.changes(result.result)
            if item and not any(line.startswith(item) for line in lines):
                lines.insert(0, item)
            lines += self.diffs.pop(host, "").splitlines()
            self.changed.setdefault("\n".join(lines), []).append(host)

    def _show_failure(self, word: str, result: Any, ignored: bool | None, item: str = "") -> None:
        with self.lock:
            self._show_changes()
            first = f"    {word}{', ignored' if ignored else ''}: {self.host_label(result)}{item}"
            lines = [first, *(f"      {line}" for line in outcomes.failure(result.result))]
            self._show("\n".join(lines), C.COLOR_WARN if ignored else C.COLOR_ERROR)

    def _show_changes(self) -> None:
        for text, hosts in self.changed.items():
            lines = [
                f"    changed: {outcomes.shorten(sorted(hosts))}",
                *(f"      {line}" for line in text.splitlines()),
            ]
            self._show("\n".join(lines), C.COLOR_CHANGED)
        self.changed = {}

    def _end_task(self) -> None:
        with self.lock:
            self.ended.set()
            self._show_changes()
            seconds = time.monotonic() - self.task_started
            if self.is_shown and seconds >= SHOWN_AFTER_SECONDS:
                self._show(f"    took {outcomes.duration(seconds)}")
            self.is_shown = False
            self.headings.pop("task", None)
            self.waiting.clear()

    def _watch(self, ended: threading.Event) -> None:
        """Show a task that takes long, and later the hosts that it waits for."""
        if ended.wait(SHOWN_AFTER_SECONDS):
            return
        with self.lock:
            if not ended.is_set():
                self._show("")
        while not ended.wait(REMINDED_EVERY_SECONDS):
            with self.lock:
                seconds = outcomes.duration(time.monotonic() - self.task_started)
                self._show(f"    {seconds} so far, waiting for {outcomes.shorten(sorted(self.waiting))}")

    def _show(self, text: str, color: str | None = None) -> None:
        """Show a text below the headings that lead to it."""
        with self.lock:
            for heading in self.headings.values():
                self._display.display(heading)
            self.headings, self.is_shown = {}, True
            if text:
                self._display.display(text, color=color)


if Display().verbosity:
    CallbackModule = Everything  # type: ignore[misc]
