"""What a run shows: the headings of plays and tasks, and below them what changed, failed, or takes long."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable

from . import outcomes

SHOWN_AFTER_SECONDS = 2
REMINDED_EVERY_SECONDS = 30
Write = Callable[[str, "str | None"], None]


class Screen:
    """Shows a play and a task when there is something below them. Changes and hosts' reports wait for the task's end.

    :param write: writes a text in a color.
    :param changed_color: the color of changes.
    :param report_color: the color of reports.
    """

    def __init__(self, write: Write, changed_color: str, report_color: str) -> None:
        self._write, self._changed_color, self._report_color = write, changed_color, report_color
        self._lock = threading.RLock()
        self._headings: dict[str, str] = {}  # of the play and the task, until they are shown
        self._task_is_shown = False
        self._task_started = time.monotonic()
        self._task_ended = threading.Event()
        self._hosts_by_change: dict[str, set[str]] = {}
        self._reports: dict[str, list[str]] = {}  # by host
        self._waiting: set[str] = set()  # for these hosts
        atexit.register(self.end_task)  # an interrupted run shows its changes, too

    def start_play(self, name: str) -> None:
        """Begin a play."""
        self.end_task()
        self._headings = {"play": f"\n{name}"}

    def start_task(self, name: str) -> None:
        """Begin a task."""
        self.end_task()
        self._headings["task"] = f"  {name}"
        self._task_started, self._task_ended = time.monotonic(), threading.Event()
        threading.Thread(target=self._watch, args=(self._task_ended,), daemon=True).start()

    def end_task(self) -> None:
        """Show what the task changed, and its duration if it was long."""
        with self._lock:
            self._task_ended.set()
            self._show_kept()
            seconds = time.monotonic() - self._task_started
            if self._task_is_shown and seconds >= SHOWN_AFTER_SECONDS:
                self.show(f"    took {outcomes.duration(seconds)}")
            self._task_is_shown = False
            self._headings.pop("task", None)
            self._waiting.clear()

    def start_host(self, host: str) -> None:
        """Remember the host as one that the task waits for."""
        with self._lock:
            self._waiting.add(host)

    def end_host(self, host: str) -> None:
        """Forget it."""
        with self._lock:
            self._waiting.discard(host)

    def add_change(self, host: str, lines: list[str]) -> None:
        """Keep what changed on a host; hosts with the same change are shown together."""
        with self._lock:
            self._hosts_by_change.setdefault("\n".join(lines), set()).add(host)

    def show_failure(self, title: str, lines: list[str], color: str) -> None:
        """Show a failure at once, after what came before it."""
        with self._lock:
            self._show_kept()
            self.show(_below(title, lines), color)

    def show_report(self, host: str, lines: list[str]) -> None:
        """Show what a task is there to tell of the whole run, or keep what it tells of a host: hosts come in order."""
        with self._lock:
            if host:
                self._reports.setdefault(host, []).extend(lines)
            else:
                self.show("\n".join(f"    {line}" for line in lines), self._report_color)

    def show(self, text: str, color: str | None = None) -> None:
        """Show a text below the headings that lead to it."""
        with self._lock:
            for heading in self._headings.values():
                self._write(heading, None)
            self._headings, self._task_is_shown = {}, True
            if text:
                self._write(text, color)

    def _show_kept(self) -> None:
        for change, hosts in self._hosts_by_change.items():
            title = f"changed: {outcomes.shorten(sorted(hosts))}"
            self.show(_below(title, change.splitlines()), self._changed_color)
        for host, lines in sorted(self._reports.items()):
            self.show(_below(host, lines), self._report_color)
        self._hosts_by_change, self._reports = {}, {}

    def _watch(self, ended: threading.Event) -> None:
        """Show a task that takes long, and later the hosts that it waits for."""
        if ended.wait(SHOWN_AFTER_SECONDS):
            return
        with self._lock:
            if not ended.is_set():
                self.show("")
        while not ended.wait(REMINDED_EVERY_SECONDS):
            with self._lock:
                if self._waiting and not ended.is_set():
                    seconds = outcomes.duration(time.monotonic() - self._task_started)
                    self.show(f"    {seconds} so far, waiting for {outcomes.shorten(sorted(self._waiting))}")


def _below(title: str, lines: list[str]) -> str:
    return "\n".join([f"    {title}", *(f"      {line}" for line in lines)])
