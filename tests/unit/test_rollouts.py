"""A rollout as the controller sees it: where a rollback leads to, who joins, who strays, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from examples import A, B, C, D
from plugin_utils import rollouts

HOSTS = ["app1", "app2", "app3"]


def has(live: str | None = C, before: str | None = B, *more: str, **further: Any) -> dict[str, Any]:
    """What a host has of the app."""
    on_disk = [name for name in (live, before, *more) if name]
    empty = {"live": live, "before": before, "on_disk": on_disk, "singletons": False, "hooks": {}}
    return {**empty, "rollout": {}, "interrupted": {}, **further}


def claims(*hosts: dict[str, Any]) -> dict[str, Any]:
    """What the module rollout told, by host."""
    return {name: {"apps": {"blog": one}} for name, one in zip(HOSTS, hosts, strict=False)}


# where a rollback leads to


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
    told = rollouts.rollback_target(claims(*hosts), "blog", "previous")
    assert (told["release"], told["lacking"], told["problem"]) == (release, [], "")


def test_hosts_that_have_nothing_in_common_are_named() -> None:
    told = rollouts.rollback_target(claims(has(C, B), has(A, None)), "blog", "previous")
    assert told["problem"] == (
        "blog: there is no release that all hosts can go back to "
        f"(app1: {C} is live, {B} was before; app2: {A} is live, nothing was before); name one: -e release=<id>"
    )


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([has(), has(C, B, A), has()], f"app1, app3 have no release {A}, and app2 has it; -e ship=true brings it"),
        ([has(C, A), has(), has(C, A)], f"app2 has no release {A}, and app1, app3 have it; -e ship=true brings it"),
        ([has(), has(), has()], f"no host has a release {A}; playbooks/status.yml tells which there are"),
    ],
)
def test_a_release_that_not_every_host_has_is_refused(hosts: list[dict[str, Any]], words: str) -> None:
    assert words in rollouts.rollback_target(claims(*hosts), "blog", A)["problem"]


def test_it_is_shipped_from_one_that_has_it_when_asked_for() -> None:
    told = rollouts.rollback_target(claims(has(), has(C, f"{A}.1")), "blog", A, ship=True)
    assert told == {"release": A, "lacking": ["app1"], "donor": "app2", "name": f"{A}.1", "problem": ""}


def test_a_host_without_the_app_has_no_say() -> None:
    told = rollouts.rollback_target({**claims(has()), "other": {"apps": {}}}, "blog", "previous")
    assert (told["release"], told["lacking"]) == (B, [])


# who joins


def seen(*hosts: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What each host told, by task; None did not answer."""
    told = zip(HOSTS, hosts, strict=False)
    return [
        {"__flask_app_host": name, **({"apps": {"blog": one}} if one else {"unreachable": True})} for name, one in told
    ]


def test_a_host_joins_on_the_release_of_the_others() -> None:
    told = rollouts.fleet_release(seen(has(None, None), has(f"{C}.1"), None), "blog")
    assert told == {"release": C, "donor": "app2", "name": f"{C}.1", "problem": ""}


def test_where_nobody_has_one_there_is_nothing_to_join() -> None:
    told = rollouts.fleet_release(seen(has(None, None), has(None, None)), "blog")
    assert (told["release"], told["donor"], told["problem"]) == (None, None, "")


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([has(C), has(B)], f"blog: the hosts run more than one release (app1 {C}, app2 {B}); deploy or roll back"),
        (
            [has(C, rollout={"what": "deploy", "by": "me@laptop", "target": D}), has(C)],
            "a deploy by me@laptop goes on; run this again when it has ended",
        ),
        ([has(None, None), None, None], "blog: app2, app3 can't be asked which release the fleet runs, and nobody"),
    ],
    ids=["more than one", "a rollout goes on", "who may have one is silent"],
)
def test_a_host_does_not_join_hosts_that_change_or_may_have_one(hosts: list[dict[str, Any] | None], words: str) -> None:
    assert words in rollouts.fleet_release(seen(*hosts), "blog")["problem"]


def test_hosts_that_join_are_those_that_said_so() -> None:
    hostvars = {
        "app1": {"__flask_app_present": {"results": [{"app": "blog", "joining": True}]}},
        "app2": {"__flask_app_present": {"results": [{"app": "blog"}, {"skipped": True}]}},
        "app3": {},
    }
    assert rollouts.joining(HOSTS, hostvars, "blog") == ["app1"]


# programs that run on one host


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([has(), has(singletons=True), has()], "app2"),
        ([has(), has(), has()], "app1"),
        ([has(), has(singletons=True)], None),
    ],
    ids=["where they are", "the first one", "not all were asked"],
)
def test_one_host_has_the_programs_that_run_on_one(told: list[dict[str, Any]], expected: str | None) -> None:
    assert rollouts.singletons_host(claims(*told), "blog", HOSTS) == expected


# hooks


def test_a_hook_that_one_host_has_run_is_done_for_all() -> None:
    told = claims(has(hooks={C: {"migrate": "at ten"}}), has(hooks={C: {"seed": "at eleven"}, B: {"migrate": "x"}}))
    assert rollouts.hooks_done([*told.values(), {}], "blog") == {
        C: {"migrate": "at ten", "seed": "at eleven"},
        B: {"migrate": "x"},
    }


# what is told


def host(**steps: Any) -> dict[str, Any]:
    """What tasks have registered on a host."""
    return {f"__flask_app_{step}": result for step, result in steps.items()}


def items(**result: Any) -> dict[str, Any]:
    """The result of a loop over one app."""
    return {"results": [{"app": "blog", "__flask_app": {"app": "blog"}, **result}]}


WARM = items(live=B, before=B, release=C, switching="deploy", seconds=1.2)
SKIPPED = {"results": [{"skipped": True}]}
DEAD = {"results": [{"unreachable": True, "msg": "no route", "__flask_app": {"app": "blog"}}]}


TWO = {"results": [{"app": name, "__flask_app": {"app": name}} for name in ("blog", "shop")]}


def test_movers_are_the_hosts_with_something_to_switch_to() -> None:
    hostvars = {"app1": host(warm=items(live=C)), "app2": host(warm=WARM), "app3": host(warm=SKIPPED)}
    assert rollouts.movers(HOSTS, hostvars, "blog") == ["app2"]


def test_movers_that_no_client_meets_come_last() -> None:
    hostvars = dict.fromkeys(HOSTS, host(warm=WARM))
    assert rollouts.movers(HOSTS, hostvars, "blog", out=["app1"]) == ["app2", "app3", "app1"]


@pytest.mark.parametrize(
    ("steps", "strays"),
    [
        ({"first": items(), "undone": items(live=B)}, False),
        ({"others": items(), "undone": DEAD}, True),
        ({"others": DEAD}, True),
        ({"others": SKIPPED, "undone": DEAD}, False),
        ({"warm": DEAD}, False),
        ({"first": items(), "undone": items(failed=True, msg="no")}, True),
        ({"first": TWO, "undone": {"results": [{"app": "blog", "live": B}, {"unreachable": True}]}}, True),
    ],
    ids=[
        "went back", "silent when told to undo", "silent when told to switch", "was not told", "died before",
        "could not go back", "died between two apps",
    ],
)  # fmt: skip
def test_a_stray_was_told_to_switch_and_has_not_gone_back(steps: dict[str, Any], strays: bool) -> None:
    assert rollouts.strays(["app1"], {"app1": host(**steps)}) == (["app1"] if strays else [])


def test_a_rollout_that_was_taken_back_tells_where_each_host_is() -> None:
    hostvars = {"app1": host(undone=items(live=B)), "app2": host(undone=items(live=B)), "app3": host(warm=DEAD)}
    assert rollouts.failure(HOSTS, hostvars, []) == [
        "The rollout was taken back: no host serves a release that the others do not.",
        f"- app1: blog {B} is live",
        f"- app2: blog {B} is live",
        "- app3: does not answer, and was not told to switch",
    ]


def test_what_hosts_differed_in_before_is_told() -> None:
    hostvars = {"app1": host(undone=items(live=C)), "app2": host(undone=items(live=B))}
    assert rollouts.failure(["app1", "app2"], hostvars, []) == [
        "The rollout was taken back. As before, hosts differ in blog: deploy or roll back.",
        f"- app1: blog {C} is live",
        f"- app2: blog {B} is live",
    ]


def test_a_host_that_could_not_go_back_says_why() -> None:
    hostvars = {"app1": host(first=items(), undone=items(live=C, failed=True, msg="no room"))}
    assert rollouts.failure(["app1"], hostvars, []) == [
        "The rollout was taken back, except on app1.",
        "- app1: blog was not taken back: no room. When it is back, deploy or roll back again: it is let in when it "
        "runs what the others run",
    ]


@pytest.mark.parametrize(
    ("quarantined", "words"),
    [
        ([("lb1", {"drained": {}}), ("lb2", {"drained": {}})], "lb1, lb2 send it nothing. When"),
        ([("lb1", {"drained": {}})], "lb1 send it nothing. When"),
        ([("lb1", {"drained": {}}), ("lb2", {"msg": "no route"})], "lb1 sends it nothing. lb2 does: no route. When"),
        ([("lb1", {"unreachable": True})], "lb1 does: it does not answer. When"),
        ([], "may have switched. When it is back"),
    ],
    ids=["by both", "by the only one", "by one of two", "by none", "no balancers"],
)
def test_a_stray_is_told_with_its_balancers(quarantined: list[tuple[str, dict[str, Any]]], words: str) -> None:
    hostvars = {"app1": host(undone=items(live=B)), "app2": host(others=DEAD)}
    told = [{"__flask_app_pair": ["app2", balancer], **one} for balancer, one in quarantined]
    first, _, last = rollouts.failure(["app1", "app2"], hostvars, told)
    assert first == "The rollout was taken back, except on app2."
    assert words.replace("lb1 send it", "lb1 sends it") in last


def test_a_summary_has_a_line_for_each_host_and_app() -> None:
    traffic = items(traffic={"requests": 7, "failed": 1})
    hostvars = {
        "app1": host(warm=WARM, first=items(at=1.5), others=SKIPPED, retired=traffic),
        "app2": host(warm=WARM, first=SKIPPED, others=items(at=2), retired=DEAD),
        "app3": host(warm=items(live=C)),
    }
    assert rollouts.summary(HOSTS, hostvars) == [
        f"app1: blog {B} → {C}: staged and warm in 1.2 s, switched at 00:00:01.500 UTC, 7 requests since, 1 failed",
        f"app2: blog {B} → {C}: staged and warm in 1.2 s, switched at 00:00:02.000 UTC",
        f"app3: blog {C} was live already",
    ]


def test_what_could_not_be_retired_is_told() -> None:
    hostvars = {"app1": host(warm=WARM, retired=items()), "app2": host(warm=WARM, retired=DEAD), "app3": {}}
    assert rollouts.left(HOSTS, hostvars) == ["- app2: blog: no route"]


def test_a_host_that_died_after_its_switch_is_told() -> None:
    hostvars = {"app1": host(warm=items(live=C), retired={"results": []}), "app2": host(warm=WARM)}
    assert rollouts.left(["app1", "app2"], hostvars) == ["- app2: does not answer since its switch"]
