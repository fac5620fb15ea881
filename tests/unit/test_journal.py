"""The journal of an app: the order of its releases, without switches that never happened."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet import journal
from ansible.module_utils.flaskfleet.journal import Journal, now, release_id
from examples import A, B, C


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blog.json"


def entries(*releases: str) -> list[dict[str, Any]]:
    """Entries in this order, on a host whose clock went backwards."""
    return [{"release": release, "since": f"2026-11-{30 - day}"} for day, release in enumerate(releases)]


def written(path: Path, *releases: str, voided: tuple[str, ...] = ()) -> Path:
    """Write a journal with these entries."""
    record = Journal(path, None)
    record.history = entries(*releases)
    record.voided = {release: {"since": "2026-11-30", "by": "me"} for release in voided}
    record.save()
    return path


@pytest.mark.parametrize(("release", "id"), [(A, A), (f"{A}.1", A), (f"{A}.12", A), ("", "")])
def test_a_restart_has_its_releases_id(release: str, id: str) -> None:
    assert release_id(release) == id


def test_now_is_the_time_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 1, 2, 3, 4, 5, 0, 0, 0)))
    assert now() == "2026-01-02T03:04:05Z"


def test_a_host_that_never_had_the_app_remembers_nothing(path: Path) -> None:
    record = Journal(path, None)
    assert (record.history, record.voided, record.hooks, record.last(A)) == ([], {}, {}, {})


def test_a_saved_journal_is_read_again(path: Path) -> None:
    saved = Journal(path, None)
    saved.history = entries(A, B)
    saved.voided = {A: {"since": "2026-11-30", "by": "me"}}
    saved.hooks = {B: {"flask db upgrade": "2026-11-29"}}
    saved.save()
    record = Journal(path, B)
    assert (record.history, record.voided, record.hooks) == (saved.history, saved.voided, saved.hooks)


def test_an_unsaved_change_is_lost(path: Path) -> None:
    written(path, A)
    Journal(path, A).history.clear()
    assert Journal(path, A).history == entries(A)


def test_only_root_reads_a_journal(path: Path) -> None:
    assert oct(written(path, A).stat().st_mode)[-4:] == "0600"


@pytest.mark.parametrize(
    ("announced", "live", "remembered"),
    [
        ([A, B], A, [A]),
        ([A, B], B, [A, B]),
        ([A, B, A], B, [A, B]),
        ([A, f"{A}.1"], A, [A]),
    ],
    ids=["another one", "it came", "the one before", "a restart"],
)
def test_an_entry_without_its_rename_is_dropped(
    path: Path, announced: list[str], live: str, remembered: list[str]
) -> None:
    assert Journal(written(path, *announced), live).history == entries(*remembered)


@pytest.mark.parametrize(("live", "voided"), [(A, [B]), (f"{B}.1", [A]), (C, [A, B])])
def test_a_live_release_is_not_voided(path: Path, live: str, voided: list[str]) -> None:
    """It was deployed by force, or the rollback from it never happened."""
    assert list(Journal(written(path, live, voided=(A, B)), live).voided) == voided


def test_the_order_counts_and_not_the_times(path: Path) -> None:
    assert Journal(written(path, A, B, C, A), A).newest_first() == [A, C, B]


def test_a_release_that_was_live_twice_is_live_since_the_second_time(path: Path) -> None:
    assert Journal(written(path, A, B, A), A).last(A) == entries(A, B, A)[-1]


def test_a_restart_has_a_time_of_its_own(path: Path) -> None:
    record = Journal(written(path, A, f"{A}.1"), f"{A}.1")
    assert record.last(A) != record.last(f"{A}.1") != {}


def test_only_the_last_entries_are_remembered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "REMEMBERED", 2)
    assert Journal(written(path, A, B, C), C).newest_first() == [C, B]
