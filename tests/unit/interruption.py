"""Ending a run at each of its steps, as a power cut does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

STEPS = (
    "open",
    "fsync",
    "mkdir",
    "link",
    "rmdir",
    "rename",
    "replace",
    "symlink",
    "unlink",
    "chmod",
    "chown",
    "lchown",
    "fchown",
)


class Interrupted(BaseException):
    """An exception that no handler catches."""


def interruptions(run: Callable[[int], object]) -> Iterator[int]:
    """Call ``run(0)``, ``run(1)``, … and end it before its first, second, … change to the disk, until it gets through.

    Yields after each, so that a test looks at what is left: once per interruption.
    """
    for number in range(1000):
        with pytest.MonkeyPatch.context() as patch, suppress(Interrupted):
            _interrupt(patch, number)
            run(number)
            assert number, "there was nothing to interrupt"
            return
        yield number
    raise AssertionError("it never gets through")


def _interrupt(patch: pytest.MonkeyPatch, number: int) -> None:
    done = 0

    def wrap(step: Callable[..., object]) -> Callable[..., object]:
        def interruptible(*args: object, **kwargs: object) -> object:
            nonlocal done
            if done == number:
                raise Interrupted
            done += 1
            return step(*args, **kwargs)

        return interruptible

    for name in STEPS:
        patch.setattr(os, name, wrap(getattr(os, name)))
    patch.setattr(subprocess, "run", wrap(subprocess.run))  # rm(1)
