"""A rollout as the controller sees it: its release, its hosts, and the report at its end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from examples import A, B, C, D
from plugin_utils import rollout_report, rollouts
from plugin_utils.rendering import PROJECT

HOSTS = ["app1", "app2", "app3"]
TASKS = "\n".join(path.read_text() for path in sorted((PROJECT / "roles/flask_app/tasks").glob("*.yml")))


def has(live: str | None = C, before: str | None = B, *more: str, **further: Any) -> dict[str, Any]:
    """What app_lock gathers of the app on a host."""
    on_disk = [name for name in (live, before, *more) if name]
    empty = {"live": live, "before": before, "on_disk": on_disk, "singletons": False, "hooks": {}}
    return {**empty, "lock": {}, "interrupted": {}, **further}


def gathered(*hosts: dict[str, Any]) -> dict[str, Any]:
    """What app_lock gathers, by host."""
    return {name: {"apps": {"blog": one}} for name, one in zip(HOSTS, hosts, strict=False)}


# what tasks register


@pytest.mark.parametrize("variable", rollouts.REGISTERED.values())
def test_a_task_of_the_role_registers_what_is_read(variable: str) -> None:
    assert re.search(rf"^ *register: {variable}$", TASKS, re.MULTILINE)


@pytest.mark.parametrize("variable", [rollouts.HOST, rollouts.HOST_AND_BALANCER])
def test_a_task_of_the_role_loops_with_the_variable_that_is_read(variable: str) -> None:
    assert re.search(rf"^ *loop_var: {variable}$", TASKS, re.MULTILINE)


# the release of a rollback


@pytest.mark.parametrize(
    ("hosts", "release"),
    [
        ([has(C, B), has(C, B)], B),
        ([has(f"{C}.1", f"{B}.2"), has(C, B)], B),
        ([has(C, B), has(B, A, C)], B),
        ([has(B, A), has(B, A, interrupted={"what": "rollback", "target": B})], B),
        ([has(B, A), has(B, A, interrupted={"what": "deploy", "target": B})], A),
        ([has(B, A), has(B, A, interrupted={"what": "rollback", "target": C})], A),
    ],
    ids=[
        "the one before", "whatever it is called", "where some are ahead", "to the end of an interrupted one",
        "an interrupted deploy", "one that came to nothing",
    ],
)  # fmt: skip
def test_a_rollback_leads_all_hosts_to_one_release(hosts: list[dict[str, Any]], release: str) -> None:
    found = rollouts.rollback_target(gathered(*hosts), "blog", "previous")
    assert (found["release"], found["lacking"], found["problem"]) == (release, [], "")


def test_hosts_that_have_nothing_in_common_are_named() -> None:
    found = rollouts.rollback_target(gathered(has(C, B), has(A, None)), "blog", "previous")
    assert found["problem"] == (
        "blog: the hosts have no release in common to roll back to "
        f"(app1: {C} is live, {B} was before; app2: {A} is live, no release was before); name a release: "
        "-e release=<id>"
    )


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([has(), has(C, B, A), has()], f"app1, app3 have no release {A}, and app2 has it; -e ship=true uploads it"),
        ([has(C, A), has(), has(C, A)], f"app2 has no release {A}, and app1, app3 have it; -e ship=true uploads it"),
        ([has(), has(), has()], f"no host has a release {A}; playbooks/status.yml lists the releases on disk"),
    ],
)
def test_a_release_that_not_every_host_has_is_refused(hosts: list[dict[str, Any]], words: str) -> None:
    assert words in rollouts.rollback_target(gathered(*hosts), "blog", A)["problem"]


def test_a_release_is_shipped_from_a_host_that_has_it() -> None:
    found = rollouts.rollback_target(gathered(has(), has(C, f"{A}.1")), "blog", A, ship=True)
    assert found == {"release": A, "lacking": ["app1"], "source_host": "app2", "name": f"{A}.1", "problem": ""}


def test_a_host_without_the_app_has_no_say() -> None:
    found = rollouts.rollback_target({**gathered(has()), "other": {"apps": {}}}, "blog", "previous")
    assert (found["release"], found["lacking"]) == (B, [])


# hosts that join


def answers(*hosts: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What app_lock gathers, by task; None does not answer."""
    return [
        {"__flask_app_host": name, **({"apps": {"blog": one}} if one else {"unreachable": True})}
        for name, one in zip(HOSTS, hosts, strict=False)
    ]


def test_a_host_joins_with_the_release_of_the_other_app_servers() -> None:
    found = rollouts.fleet_release(answers(has(None, None), has(f"{C}.1"), None), "blog")
    assert found == {"release": C, "source_host": "app2", "name": f"{C}.1", "problem": ""}


def test_if_no_host_has_a_release_there_is_nothing_to_join() -> None:
    found = rollouts.fleet_release(answers(has(None, None), has(None, None)), "blog")
    assert (found["release"], found["source_host"], found["problem"]) == (None, None, "")


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        (
            [has(C), has(B)],
            f"blog: the app servers run more than one release (app1 {C}, app2 {B}); deploy",
        ),
        (
            [has(C, lock={"what": "deploy", "by": "me@laptop", "target": D}), has(C)],
            "blog: a deploy by me@laptop holds the lock; run the playbook again when it ends",
        ),
        ([has(None, None), None, None], "has a release, and these do not answer: app2, app3; run the playbook again"),
    ],
    ids=["more than one", "a rollout holds the lock", "a host that may have one is silent"],
)
def test_a_host_does_not_join_hosts_that_change_or_may_have_one(hosts: list[dict[str, Any] | None], words: str) -> None:
    assert words in rollouts.fleet_release(answers(*hosts), "blog")["problem"]


def test_joining_hosts_are_those_that_say_so() -> None:
    hostvars = {
        "app1": {"__flask_app_present": {"results": [{"app": "blog", "joining": True}]}},
        "app2": {"__flask_app_present": {"results": [{"app": "blog"}, {"skipped": True}]}},
        "app3": {},
    }
    assert rollouts.joining_hosts(HOSTS, hostvars, "blog") == ["app1"]


# programs that run on one host


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([has(), has(singletons=True), has()], "app2"),
        ([has(), has(), has()], "app1"),
        ([has(), has(singletons=True)], None),
    ],
    ids=["where they are", "the first one", "not all were asked"],
)
def test_one_host_runs_the_singletons(hosts: list[dict[str, Any]], expected: str | None) -> None:
    for host in HOSTS:
        found = rollouts.singletons(gathered(*hosts), ["blog"], HOSTS, host)
        assert found == ({"blog": host == expected} if expected else {})


def test_the_only_app_server_runs_the_singletons() -> None:
    assert rollouts.singletons({"app1": {"skipped": True}}, ["blog", "shop"], ["app1"], "app1") == {
        "blog": True, "shop": True,
    }  # fmt: skip


# hooks


def test_a_hook_that_one_host_has_run_is_done_for_all() -> None:
    found = gathered(has(hooks={C: {"migrate": "at ten"}}), has(hooks={C: {"seed": "at eleven"}, B: {"migrate": "x"}}))
    assert rollouts.hooks_done([*found.values(), {}]) == {
        "blog": {C: {"migrate": "at ten", "seed": "at eleven"}, B: {"migrate": "x"}}
    }


# the report at its end


def host(**steps: Any) -> dict[str, Any]:
    """What tasks have registered on a host."""
    return {rollouts.REGISTERED[step]: result for step, result in steps.items()}


def told(**result: Any) -> dict[str, Any]:
    """The result of app_rollout for one app."""
    return {"apps": {"blog": result}}


WARM = told(live=B, before=B, release=C, switching="deploy", seconds=1.2)
SKIPPED = {"skipped": True}
DEAD = {"unreachable": True, "msg": "no route"}
TWO = {"apps": {name: {"live": B, "before": B, "switching": "deploy"} for name in ("blog", "shop")}}


@pytest.mark.parametrize(
    ("what", "warm", "order"),
    [
        ("deploy", HOSTS, {"app1": ("first", True), "app2": ("others", False), "app3": ("others", False)}),
        ("deploy", ["app2"], {"app2": ("first", False)}),
        ("rollback", HOSTS, dict.fromkeys(HOSTS, ("others", False))),
        ("restart", ["app3"], {"app3": ("others", False)}),
    ],
)
def test_a_deploy_begins_on_one_host_and_others_follow(
    what: str, warm: list[str], order: dict[str, tuple[str, bool]]
) -> None:
    hostvars = {
        name: host(warm=told(live=B, before=B, switching=what) if name in warm else told(live=C)) for name in HOSTS
    }
    for name in HOSTS:
        found = rollouts.switch_order(HOSTS, hostvars, name)
        place, is_canary = order.get(name, ("", False))
        assert found["first"] == ["blog"] * (place == "first")
        assert found["canary"] == ["blog"] * is_canary
        assert found["others"] == ["blog"] * (place == "others")


def test_hooks_before_the_switch_run_on_the_first_host() -> None:
    hooked = told(live=B, before=B, switching="deploy", hooked=True)
    hostvars = dict.fromkeys(HOSTS, host(warm=hooked))
    assert [rollouts.switch_order(HOSTS, hostvars, name)["hooked"] for name in HOSTS] == [["blog"], [], []]


def test_a_rollback_has_a_release_of_each_app_of_any_host() -> None:
    found = {"app1": {"apps": {"blog": has()}}, "app2": {"apps": {"blog": has(), "shop": has(D, A)}}}
    targets = rollouts.rollback_targets(found, "previous")
    assert {app: one["release"] for app, one in targets.items()} == {"blog": B, "shop": A}


def test_a_drained_host_is_no_canary() -> None:
    hostvars = dict.fromkeys(HOSTS, host(warm=WARM))
    assert [rollouts.switch_order(HOSTS, hostvars, name, drained=["app1"])["canary"] for name in HOSTS] == [
        [], ["blog"], [],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "is_unconfirmed"),
    [
        ({"warm": WARM, "canary": told(), "rolled_back": told(live=B)}, False),
        ({"warm": WARM, "canary": told(), "rolled_back": told(live=f"{B}.1")}, False),
        ({"warm": WARM, "canary": told(), "rolled_back": told(live=C)}, True),
        ({"warm": WARM, "switched": told(), "rolled_back": DEAD}, True),
        ({"warm": WARM, "switched": DEAD}, True),
        ({"warm": WARM, "switched": DEAD, "rolled_back": told(live=B)}, False),
        ({"warm": WARM, "switched": DEAD, "rolled_back": told(live=C)}, True),
        ({"warm": WARM, "switched": SKIPPED, "rolled_back": DEAD}, False),
        ({"warm": DEAD}, False),
        ({"warm": WARM, "canary": told(), "rolled_back": told(live=C, failed="no")}, True),
        ({"warm": TWO, "canary": TWO, "rolled_back": told(live=B)}, True),
    ],
    ids=[
        "rolled back", "to a restart of it", "rebooted since its switch", "silent at the rollback",
        "silent at the switch", "back with the old release", "back with the new release", "was not told to switch",
        "died before", "could not roll back", "died between two apps",
    ],
)  # fmt: skip
def test_unconfirmed_hosts_have_attempted_a_switch_and_are_not_rolled_back(
    steps: dict[str, Any], is_unconfirmed: bool
) -> None:
    assert rollout_report.unconfirmed_hosts(["app1"], {"app1": host(**steps)}) == (["app1"] if is_unconfirmed else [])


CRASHED = {"failed": True, "msg": "Module failed: KeyError: 'inputs'"}


def test_a_rollback_that_crashed_is_told_in_its_words() -> None:
    hostvars = {
        "app1": host(warm=WARM, canary=told(), rolled_back=CRASHED),
        "app2": host(warm=WARM, rolled_back=CRASHED),
        "app3": host(rolled_back={"apps": {}}),
    }
    *_, first, second, third = rollout_report.failure(HOSTS, hostvars, [])
    assert first.startswith("- app1: blog was not rolled back: Module failed: KeyError: 'inputs'. When app1")
    assert second == "- app2: was not told to switch; Module failed: KeyError: 'inputs'"
    assert third == "- app3: has none of the apps"


def test_a_host_whose_lock_another_run_has_broken_is_that_runs() -> None:
    hostvars = {"app1": host(warm=WARM, canary=told(), rolled_back=told(live=D, locked_by="you@desktop"))}
    assert rollout_report.unconfirmed_hosts(["app1"], hostvars) == []


def test_the_report_of_a_failure_tells_what_is_live_on_each_host() -> None:
    hostvars = {
        "app1": host(warm=WARM, canary=told(), rolled_back=told(live=B)),
        "app2": host(rolled_back=told(live=B)),
        "app3": host(warm=DEAD),
    }
    assert rollout_report.failure(HOSTS, hostvars, []) == [
        "The rollout was rolled back: no host serves another release than the other hosts.",
        "Cause on app3: does not answer",
        f"- app1: blog {B} is live",
        f"- app2: blog {B} is live",
        "- app3: does not answer, and was not told to switch",
    ]


def failed(task: str, message: str) -> dict[str, Any]:
    """What Ansible keeps of a task that failed."""
    return {"ansible_failed_task": {"name": task}, "ansible_failed_result": {"failed": True, "msg": message}}


def test_the_report_of_a_failure_names_the_cause_once() -> None:
    task, problem = "Rollout | Warm up the release beside the live one", "blog: no answer on /. Its log:\nGAME OVER"
    live = host(rolled_back=told(live=B))
    hostvars = {name: failed(task, problem) | live for name in ("app1", "app2")}
    hostvars["app3"] = failed("Install | Install packages", "stale") | live
    first, cause, *hosts = rollout_report.failure(HOSTS, hostvars, [])
    assert first == "The rollout ended before the first switch: every host serves what it served before."
    assert cause == 'Cause on app1, app2: blog: no answer on /. (task "Warm up the release beside the live one")'
    assert hosts == [f"- {name}: blog {B} is live" for name in HOSTS]


def test_hosts_that_differed_before_the_rollout_are_told() -> None:
    hostvars = {
        "app1": host(warm=WARM, canary=told(), rolled_back=told(live=B)),
        "app2": host(rolled_back=told(live=C)),
    }
    assert rollout_report.failure(["app1", "app2"], hostvars, []) == [
        "The rollout was rolled back. As before it, the hosts run different releases of blog: deploy or roll back.",
        f"- app1: blog {B} is live",
        f"- app2: blog {C} is live",
    ]


def test_a_host_that_is_not_rolled_back_says_why() -> None:
    hostvars = {"app1": host(warm=WARM, canary=told(), rolled_back=told(live=C, failed="no room"))}
    assert rollout_report.failure(["app1"], hostvars, []) == [
        "The rollout was rolled back, except on app1.",
        "- app1: blog was not rolled back: no room. When app1 works again, deploy or roll back: app1 is undrained as "
        "soon as it runs the release of the other app servers",
    ]


@pytest.mark.parametrize(
    ("balancers", "words"),
    [
        ([("lb1", {"drained": {}}), ("lb2", {"drained": {}})], "Quarantined on lb1, lb2. When"),
        ([("lb1", {"drained": {}})], "Quarantined on lb1. When"),
        (
            [("lb1", {"drained": {}}), ("lb2", {"msg": "no route"})],
            "on lb1. Not quarantined on lb2: no route. When",
        ),
        ([("lb1", {"unreachable": True})], "Not quarantined on lb1: it does not answer. When"),
        ([], "may have switched. When app2 works again"),
    ],
    ids=["by both", "by the only one", "by one of two", "by none", "no balancers"],
)
def test_an_unconfirmed_host_is_told_with_the_balancers_that_quarantine_it(
    balancers: list[tuple[str, dict[str, Any]]], words: str
) -> None:
    hostvars = {"app1": host(rolled_back=told(live=B)), "app2": host(warm=WARM, switched=DEAD)}
    quarantined = [{"__flask_app_pair": ["app2", balancer], **one} for balancer, one in balancers]
    first, *_, last = rollout_report.failure(["app1", "app2"], hostvars, quarantined)
    assert first == "The rollout was rolled back, except on app2."
    assert words in last


def test_a_summary_has_a_line_for_each_host_and_app() -> None:
    traffic = told(traffic={"requests": 7, "failed": 1})
    hostvars = {
        "app1": host(warm=WARM, canary=told(at=1.5), switched=SKIPPED, retired=traffic),
        "app2": host(warm=WARM, canary=SKIPPED, switched=told(at=2), retired=DEAD),
        "app3": host(warm=told(live=C)),
    }
    assert rollout_report.summary(HOSTS, hostvars) == [
        f"app1: blog {B} → {C}: staged and warm in 1.2 s, switched at 00:00:01.500 UTC, 7 requests since, 1 failed",
        f"app2: blog {B} → {C}: staged and warm in 1.2 s, switched at 00:00:02.000 UTC",
        f"app3: blog {C} was live already",
    ]


def test_hosts_that_have_not_retired_are_told() -> None:
    hostvars = {
        "app1": host(warm=WARM, retired=told()),
        "app2": host(warm=WARM, retired=DEAD),
        "app3": host(warm=WARM, retired=told(failed="blog: seed: ended with 1") | {"failed": True}),
        "app4": host(warm=WARM, retired={"failed": True, "msg": "no such option"}),
        "app5": {},
    }
    assert rollout_report.not_retired(hostvars, hostvars) == [
        "- app2: does not answer since its switch; the next rollout retires its old release",
        "- app3: blog: seed: ended with 1",
        "- app4: no such option",
    ]


def test_a_host_that_had_nothing_to_switch_has_nothing_to_retire() -> None:
    hostvars = {"app1": host(warm=told(live=C), retired=SKIPPED), "app2": host(warm=WARM)}
    assert rollout_report.not_retired(["app1", "app2"], hostvars) == [
        "- app2: does not answer since its switch; the next rollout retires its old release"
    ]
