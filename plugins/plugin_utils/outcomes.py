"""What a task has changed, and why a task has failed, in lines for a person."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

Result = dict[str, Any]

SHOWN = 6  # names in a line


def changes(result: Result) -> list[str]:
    """What changed, from what a module returns; empty if the task's name says it all."""
    return [line for words in (_files, _apps, _release, _packages) for line in words(result)]


def failure(result: Result) -> list[str]:
    """Why a task failed: its message, and the output of its command."""
    message = result.get("msg") or result.get("censored") or "the module gives no reason; -v shows its result"
    message = "\n".join(map(str, message)) if isinstance(message, list) else str(message)
    if message.rstrip(".").endswith("non-zero return code"):  # Ansible says no more
        command = result.get("cmd", "")
        message = f"exit code {result.get('rc')}: {command if isinstance(command, str) else shlex.join(command)}"
    outputs = [str(result.get(key) or "").strip() for key in ("module_stdout", "module_stderr", "stdout", "stderr")]
    further = [output for output in outputs if output and output not in str(result.get("msg"))]
    return [line for text in (message, *further) for line in text.strip().splitlines()]


def report(result: Result, variable: str | None) -> list[str]:
    """What a task of the module debug is there to tell."""
    value = result.get(variable) if variable else result.get("msg")
    return [str(line) for line in value] if isinstance(value, list) else str(value).splitlines()


def duration(seconds: float) -> str:
    """Seconds for a person, like ``3 s`` or ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def shorten(names: Iterable[str]) -> str:
    """Names in one line, the first few of many."""
    names = list(names)
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _files(result: Result) -> Iterator[str]:
    """Files of a config tree."""
    if written := result.get("written"):
        yield f"written: {shorten(written)}"
    if removed := result.get("removed"):
        yield f"removed: {shorten(removed)}"
    if "written" in result and not written and not removed and result.get("pending"):
        yield "on disk already; pending, because the service does not run it yet"


def _apps(result: Result) -> Iterator[str]:
    """What a phase of a rollout did to each app."""
    apps = result.get("apps")
    for app, one in apps.items() if isinstance(apps, dict) else ():
        if one.get("failed") or not one.get("changed") or not one.get("live", True):
            continue
        if "undeployed" in one:
            would = "be restarted" if one["release"] == one["live"] else f"be replaced by {one['release']}"
            reasons = f": {', '.join(one['undeployed'])}" if one["undeployed"] else ""
            yield f"{app}: {one['live']} would {would}{reasons}"
        elif "seconds" in one:
            yield f"{app}: {one['release']} is warm beside {one['before']}, after {one['seconds']} s"
        elif one.get("live"):
            traffic = one.get("traffic") or {}
            requests = f"; {traffic['requests']} requests, {traffic['failed']} failed" if traffic else ""
            yield f"{app}: {one['live']} is live{requests}"


def _release(result: Result) -> Iterator[str]:
    """What came of one app."""
    if result.get("app") and result.get("live"):
        yield f"{result['app']}: {result['live']} is live"


def _packages(result: Result) -> Iterator[str]:
    """Packages that apt has installed, from what it prints."""
    found = re.findall(r"^(?:Setting up|Inst) ([^\s:]+)", str(result.get("stdout", "")), re.MULTILINE)
    if installed := dict.fromkeys(found):
        yield f"packages: {shorten(installed)}"
