"""The figures of the benchmark of deploys, on made-up requests."""

import math

import pytest
import under_load
from figures import (
    Span,
    Way,
    curve,
    duration_table,
    during,
    latency_table,
    orphans,
    programs,
    ratio,
    request_table,
    switches,
    table,
    task_seconds,
)
from load import Result


def result(number: int, due: float, release: str = "a", latency: float = 0.01, **other) -> Result:
    values = {"kind": "get", "late": 0.0, "status": 200, "repeated": False, "reason": ""} | other
    return Result(number=number, due=due, latency=latency, release=release, **values)


def requests(releases: str) -> list[Result]:
    """One request per second, answered by the release that is named by a letter; a dot is no answer."""
    return [result(number, float(number), letter.strip(".")) for number, letter in enumerate(releases)]


def moments(found: list[Span]) -> list[tuple[str, float]]:
    return [(span.kind, pytest.approx((span.start + span.end) / 2)) for span in found]


class TestSwitches:
    """Switches, as the clients saw them."""

    def test_are_the_first_answers_of_another_release(self):
        spans = [Span("deploy", 1, 4), Span("rollback", 5, 9)]
        assert moments(switches(requests("aaabbbbaaa"), spans)) == [("deploy", 3.01), ("rollback", 7.01)]

    def test_last_from_a_second_before_to_a_second_after(self):
        (window,) = switches(requests("aabb"), [Span("deploy", 0, 4)])
        assert (window.start, window.end) == (pytest.approx(1.01), pytest.approx(3.01))

    def test_are_not_what_the_old_release_finishes_later(self):
        slow = result(9, 1.0, "a", latency=3.0, kind="slow")
        assert len(switches([*requests("aabbbb"), slow], [Span("deploy", 0, 3), Span("rollback", 4.5, 6)])) == 1

    def test_go_by_the_time_of_the_answer(self):
        late = result(9, 0.5, "b", latency=2.0)
        assert moments(switches([late, *requests("aaabb")], [Span("deploy", 0, 5)])) == [("deploy", 2.5)]

    def test_are_not_looked_for_in_other_runs(self):
        assert not switches(requests("aabb"), [Span("steady", 0, 1), Span("no change", 1, 4)])

    def test_are_none_without_another_release(self):
        assert not switches(requests("aa.a"), [Span("deploy", 0, 4)])

    def test_are_not_without_answers(self):
        assert not switches(requests("..."), [Span("deploy", 0, 4)])


def test_a_span_on_another_clock_is_as_long():
    moved = Span("deploy", 105.0, 109.0).since(100.0)
    assert moved == Span("deploy", 5.0, 9.0)
    assert moved.seconds == 4.0


def test_requests_that_were_due_in_overlapping_spans_are_there_once():
    found = during(requests("aaaaaa"), [Span("deploy", 1, 3), Span("rollback", 2, 4)])
    assert [one.number for one in found] == [1, 2, 3, 4]


class TestCurve:
    """Latency over time."""

    RESULTS = tuple(result(number, number * 0.5, latency=float(number)) for number in range(6))

    def test_has_a_value_for_each_step(self):
        times, values = curve(self.RESULTS, 1.0, step=1.0, width=1.0)
        assert (times, values) == ([0.5, 1.5, 2.5], [1.0, 3.0, 5.0])

    def test_looks_around_a_step(self):
        assert curve(self.RESULTS, 1.0, step=1.0, width=3.0)[1] == [3.0, 5.0, 5.0]

    def test_has_a_gap_without_answers(self):
        assert math.isnan(curve([result(0, 0.0), result(1, 2.0)], 0.5, step=1.0, width=1.0)[1][1])

    def test_without_results_is_empty(self):
        assert curve([], 0.5, step=1.0, width=1.0) == ([], [])


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


class TestTables:
    """Tables in Markdown."""

    def test_are_padded(self):
        assert table(("a", "long"), [("bcd", "1")]) == "| a   | long |\n| --- | ---: |\n| bcd |    1 |"

    def test_escape_what_would_end_a_cell(self):
        assert table(("a",), [("b | c",)]).splitlines()[2] == r"| b \| c |"

    def test_say_what_became_of_requests(self):
        results = [*requests("aabb"), result(4, 4.0, "", reason="status 500"), result(5, 5.0, "b", repeated=True)]
        way = Way("nginx", results, [Span("deploy", 0, 4)], twice=7)
        assert cells(request_table([way]))[2:] == [["nginx", "6", "1", "7", "1", "1"]]

    def test_say_latencies_in_milliseconds_and_what_a_switch_adds(self):
        calm = [result(number, number / 10, latency=0.01) for number in range(50)]
        run = [result(50 + number, 5 + number / 10, latency=0.02) for number in range(20)]
        switch = [result(70 + number, 10 + number / 10, "b", latency=0.04) for number in range(10)]
        spans = [Span("steady", 0, 4.95), Span("no change", 5, 7), Span("deploy", 9, 12)]
        lines = {line[0]: line[1:] for line in cells(latency_table([Way("nginx", [*calm, *run, *switch], spans)]))}
        assert lines["nginx, steady"] == ["50", "10.0", "10.0", "10.0", "1.00", "0.50"]
        assert lines["nginx, no-change runs"] == ["20", "20.0", "20.0", "20.0", "2.00", "1.00"]
        assert lines["nginx, switches ±1 s"] == ["10", "40.0", "40.0", "40.0", "4.00", "2.00"]
        assert lines["nginx, deploys and rollbacks"] == ["10", "40.0", "40.0", "40.0", "4.00", "2.00"]
        assert lines["nginx, whole"] == ["80", "10.0", "40.0", "40.0", "4.00", "2.00"]

    def test_say_the_median_of_durations(self):
        assert cells(duration_table({"deploy": [3.0, 1.0, 2.0], "rollback": []}))[2:] == [
            ["deploy", "3", "2.00", "1.00", "3.00"]
        ]


@pytest.mark.parametrize(("value", "base", "shown"), [(3.0, 2.0, "1.50"), (3.0, 0.0, "-"), (math.nan, 1.0, "-")])
def test_a_ratio_is_shown_if_there_is_one(value, base, shown):
    assert ratio(value, base) == shown


def test_tasks_are_read_from_the_recap_and_added_up_by_name():
    output = """
TASK [flask_app : Rollout | Switch the canary] ***
Sunday 22 November 2026  18:22:36 +0000 (0:00:00.032)       0:00:02.670 *******

TASKS RECAP ********************************************************************
Sunday 22 November 2026  18:22:38 +0000 (0:00:01.542)       0:00:04.682 *******
===============================================================================
Check every variable of every role, for every host ---------------------- 0.13s
flask_app : Rollout | Switch the canary --------------------------------------- 0.42s
other : Rollout | Switch the canary ------------------------------------------- 1.08s
"""
    assert task_seconds(output) == {
        "Check every variable of every role, for every host": 0.13,
        "Rollout | Switch the canary": pytest.approx(1.5),
    }


PROCESSES = """\
      1       0 root     /lib/systemd/systemd
   2600       1 root     /usr/bin/python3 /usr/bin/supervisord -n -c /etc/supervisor/supervisord.conf
   2840    2600 counter  counter uWSGI master
   2851    2840 counter  counter uWSGI worker 1
"""


def test_a_tree_below_supervisor_has_no_orphans():
    assert not orphans(PROCESSES, "counter")


def test_workers_without_a_master_are_orphans():
    lines = (
        PROCESSES + "   2999       1 counter  counter uWSGI worker 2\n   3000    2998 counter  counter uWSGI worker 3\n"
    )
    assert orphans(lines, "counter") == [
        "2999 1 counter counter uWSGI worker 2",
        "3000 2998 counter counter uWSGI worker 3",
    ]


def test_processes_of_others_are_no_orphans():
    assert not orphans(PROCESSES + "   2690       1 www-data nginx: worker process\n", "counter")


def test_the_programs_of_an_app_are_not_those_of_others():
    status = "counter-774a50a53465  RUNNING  pid 1\ncounter-http  RUNNING  pid 2\ncounters-1  RUNNING  pid 3\n"
    assert programs(status, "counter") == ["counter-774a50a53465", "counter-http"]


class TestWrong:
    """What may not be."""

    PLAN = under_load.Plan(deploys=1, requests=4, rate=1.0, steady_seconds=0.0)
    SPANS = (Span("deploy", 0, 4),)

    def test_is_empty_without_problems(self):
        assert not under_load.wrong(Way("nginx", requests("aabb"), list(self.SPANS)), [], self.PLAN)

    @pytest.mark.parametrize(
        ("releases", "twice", "lost", "said"),
        [
            ("aabb", 2, [], "2 requests were executed twice"),
            ("aabb", 0, [3], "1 requests were answered with 200 and are not in the app's record, like [3]"),
            ("aab", 0, [], "3 requests instead of 4"),
            ("aaaa", 0, [], "clients met another release in 0 of 1 runs"),
        ],
    )
    def test_is_reported(self, releases, twice, lost, said):
        (problem,) = under_load.wrong(Way("nginx", requests(releases), list(self.SPANS), twice), lost, self.PLAN)
        assert problem == said

    def test_is_a_failed_request(self):
        results = [*requests("aab"), result(3, 3.0, "", reason="status 502")]
        assert under_load.wrong(Way("nginx", results, list(self.SPANS)), [], self.PLAN) == ["1 requests failed"]


class TestSeeCalm:
    """The checks before the first run."""

    PLAN = under_load.Plan(deploys=1, requests=4, rate=350.0, steady_seconds=0.0)

    def test_accepts_answers_that_come_at_once(self):
        under_load.see_calm([result(0, 0.0, latency=0.02), result(1, 0.1, latency=2.0)], self.PLAN)

    def test_refuses_a_machine_on_which_requests_wait(self):
        with pytest.raises(RuntimeError, match=r"p50 is 500 ms .* 350 requests"):
            under_load.see_calm([result(0, 0.0, latency=0.5)], self.PLAN)

    def test_refuses_one_that_does_not_answer(self):
        with pytest.raises(RuntimeError):
            under_load.see_calm([], self.PLAN)
