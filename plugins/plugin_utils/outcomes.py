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
    return [line for words in (_files, _apps, _release, _packages, _wheels) for line in words(result)]


def failure(result: Result) -> list[str]:
    """Why a task failed: its message, and what its command said."""
    message = result.get("msg") or result.get("censored") or "the module gives no reason; -v shows its result"
    if "rc" in result and "cmd" in result:
        command = result["cmd"]
        message = f"exit code {result['rc']}: {command if isinstance(command, str) else shlex.join(command)}"
    said = [result.get(key) or "" for key in ("module_stdout", "module_stderr", "stdout", "stderr")]
    unsaid = [text for text in said if text.strip() and text.strip() not in message]
    return [line for text in [message, *unsaid] for line in str(text).strip().splitlines()]


def report(result: Result, variable: str | None) -> str:
    """What a task of the module debug is there to tell, indented."""
    value = result.get(variable) if variable else result.get("msg")
    lines = [str(line) for line in value] if isinstance(value, list) else str(value).splitlines()
    return "\n".join(f"    {line}" for line in lines)


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
    installed = re.findall(r"^(?:Setting up|Inst) ([^\s:]+)", str(result.get("stdout", "")), re.MULTILINE)
    if installed:
        yield f"{len(installed)} package{'s' if len(installed) > 1 else ''}: {shorten(dict.fromkeys(installed))}"


def _wheels(result: Result) -> Iterator[str]:
    """Wheels that were built or downloaded."""
    if isinstance(wheels := result.get("wheels"), list) and "tried" in result:
        compiled = result.get("compiled") or []
        yield f"{len(wheels)} wheels, " + (f"compiled: {shorten(compiled)}" if compiled else "none compiled")
