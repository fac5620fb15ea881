#!/usr/bin/python
"""A step in the life of an app's release on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release
short_description: A step in the life of an app's release on a host
description:
  - Packs the source of an app on the controller, renders what makes it run, and names the release by a hash of all
    its inputs. Each step runs to its end on the host, even where the controller goes away.
  - Several hosts take each step together, so that a release becomes live on all of them or on none.
options:
  app:
    description: One entry of C(flask_apps) with its defaults (filter C(complete_apps)). For C(absent), its C(name).
    type: dict
    required: true
  step:
    description:
      - C(present) records the app and creates its user, keeps what is live running, starts the first release where
        none is live, and reports what the inventory asks for beyond that. It never moves C(current) from one release
        to another. Where other hosts may have a release (O(alone=false)) it starts none, and says that the host is
        C(joining).
      - C(export) packs O(target) on a host that has it, C(import) stages it on one that lacks it.
      - C(warm) stages the target, runs it beside the live release, and waits until every worker has answered its
        health path. A release that can't is removed, and the app's own error is the message. Where the target is live
        already, what an interrupted run has left is finished.
      - C(before_switch) and C(after_switch) run the app's hooks of that name.
      - C(live) points C(current) at what was warmed up. A C(rollback) voids the release that it leaves.
      - C(watch) fails where the release that is live on this host first is not good enough for the others, see
        O(canary). C(confirm) asks it once.
      - C(undo) takes back what the rollout has done on this host, the switch too. It can until C(retire).
      - C(retire) lets the app's further programs be those of the live release, stops the old ones once their last
        request is done, and removes what is older than C(keep_releases).
      - C(singletons) lets the programs that run on one host run here, or not, see O(singletons).
      - C(absent) removes the app's programs, releases and user; its C(shared) folder and logs stay unless C(purge). It
        fails where the host has something of that name and no record of such an app.
      - C(wheels) has the wheels built that the controller lacks for the host's platform, sees that those it has are
        what was built, and names what a controller without access needs.
    choices:
      [present, wheels, export, import, warm, before_switch, live, watch, confirm, undo, after_switch, retire,
      singletons, absent]
    type: str
    default: present
  target:
    description:
      - The release to C(warm) up, to C(export) or C(import), or to be the first. C(inventory) is the one that the
        inventory asks for, C(previous) the one before,
        C(live) what is live, to start it anew. Anything else is the id of a release on the host.
    type: str
    default: inventory
  force:
    description: Switch to a voided release again, and break the lock of another rollout.
    type: bool
    default: false
  canary:
    description:
      - How C(watch) judges. For C(seconds), and at least so many C(requests), which may not fail (a status of 500 and
        more) for more than C(failed_percent). Where clients send fewer, the health path is asked.
    type: dict
    default: {}
  access_log:
    description: nginx's log of the app, in which requests are counted; none where nginx does not serve it.
    type: path
  hooks_done:
    description: The commands of C(before_switch) that other hosts have run, by release and command.
    type: dict
    default: {}
  alone:
    description: Whether no other host can have a release of the app.
    type: bool
    default: true
  singletons:
    description: >-
      Whether this host, of all, runs the programs that run on one (C(run_on=one)). With C(singletons), C(retire) and
      a first release; without it that stays as it is.
    type: bool
  purge:
    description: With C(absent), remove C(shared), logs and the journal, too.
    type: bool
    default: false
  keep_releases:
    description: How many releases stay on disk for a rollback, the live one included.
    type: int
    default: 5
  keep_warm:
    description: Whether the previous release stays up, for a rollback that is one rename.
    type: bool
    default: false
  templates:
    description: Folders, relative to the project, whose C(*.j2) become the release's files.
    type: list
    elements: path
    default: []
  router_template:
    description: The template of the Supervisor program that listens where the app has C(http), relative to the project.
    type: path
  settings:
    description: What the templates need beside the app, C(uwsgi_version) among it; part of the release's inputs.
    type: dict
    default: {}
  wheels:
    description:
      - How the wheels of the app's environment are built. C(uwsgi) is the set of uWSGI, C(build) what concerns all
        sets, C(builder) the host that builds, by default the first one that lacks a set, C(house) the wheelhouse.
      - See C(Wanted) in plugin_utils/wheelhouse.py.
    type: dict
    default: {}
author: flaskfleet
"""

EXAMPLES = r"""
- name: Release | Make the first release of each app live
  app_release:
    app: "{{ (flask_apps | complete_apps)[item] }}"
    templates: [roles/uwsgi/release, roles/flask_app/release]
    settings: {uwsgi_version: 2.0.31, listen: 1024, buffer_size: 65535}
  loop: "{{ flask_apps.keys() }}"

- name: Warm up what was live before
  app_release:
    app: "{{ (flask_apps | complete_apps).blog }}"
    step: warm
    target: previous
"""

RETURN = r"""
release:
  description: The release that the step was about; null where there is none.
  type: str
  returned: always
live:
  description: The release that is live in the end; null where none is.
  type: str
  returned: always
joining:
  description: Whether the host has no release, and other hosts may have one.
  type: bool
  returned: with C(present)
apps:
  description: By the app's name its C(hooks), the C(before_switch) commands that are done, as M(app_lock) returns them.
  type: dict
  returned: after C(present) with a first release
archive:
  description: Where the release is on the controller now, for C(import).
  type: path
  returned: after C(export)
undeployed:
  description: What the inventory asks for that is not live, like C(processes 4 → 8).
  type: list
  elements: str
  returned: with present
switching:
  description: C(deploy), C(rollback) or C(restart), where the steps after C(warm) are to follow.
  type: str
  returned: after C(warm), where the target is not live
before:
  description: The release that was live before.
  type: str
  returned: after C(warm), where the target is not live
seconds:
  description: How long C(warm) took.
  type: float
  returned: after C(warm), where there was something to do
at:
  description: When C(current) was renamed, in epoch seconds.
  type: float
  returned: after C(live), where it was
traffic:
  description: Requests of the release since the switch (C(requests)), and of them those that C(failed).
  type: dict
  returned: after C(watch) and C(retire)
said:
  description: What hooks said, a line each.
  type: list
  elements: str
  returned: always
platform:
  description: What the host needs wheels for, like C(debian-12-x86_64-cp311/1a2b3c4d).
  type: str
  returned: step is C(wheels)
bundle:
  description:
    - What a controller without access to an index needs for the app and the host's platform, below the project. See
      C(make bundle).
  type: list
  elements: path
  returned: step is C(wheels)
needs:
  description: What the action plugin has to bring before the step can be taken; it does.
  type: dict
  returned: where something is lacking
holder:
  description: The record of the lock's holder.
  type: dict
  returned: on failure, where there is one
"""

import base64
import json
import os
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet import (
    health,
    hooks,
    http_router,
    presence,
    release_log,
    secret_files,
    staging,
    switching,
    warm_up,
)
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.app_state import differences
from ansible.module_utils.flaskfleet.builds import clean_up
from ansible.module_utils.flaskfleet.canary import Mark
from ansible.module_utils.flaskfleet.environments import Environment, EnvironmentFailed
from ansible.module_utils.flaskfleet.journal import release_id
from ansible.module_utils.flaskfleet.paths import ReleaseFailed
from ansible.module_utils.flaskfleet.rollout_lock import Locked
from ansible.module_utils.flaskfleet.secret_files import Secrets
from ansible.module_utils.flaskfleet.services import supervisor
from ansible.module_utils.flaskfleet.staging import Release
from ansible.module_utils.flaskfleet.users import UserFailed
from ansible.module_utils.flaskfleet.wheels import WheelFailed, lacking, merged, platform_of, receive

SUPERVISOR_SOCKET = "/run/supervisor.sock"
Wanted = dict[str, Any]
Result = dict[str, Any]


def environment(wanted: Wanted, *names: str) -> Environment:
    """The environment of the app's interpreter that is made from the sets of these names, ``uwsgi`` or ``app``.

    Our uWSGI comes first: an app's own does not replace it.
    """
    platform, sets = platform_of(wanted["python"]), [wanted["wheels"][name] for name in names]
    found = [one["known"].get(platform) for one in sets]
    return Environment(
        python=wanted["python"],
        platform=platform,
        sets=tuple(one["key"] for one in sets),
        wheels=None if None in found else tuple(merged(found)),
    )


def needs(app: App, wanted: Wanted, release: str | None, *environments: Environment) -> Result:
    """What the controller has to bring before a release can be staged and environments be made; nothing if it has.

    :param release: the one to stage; None for none.
    """
    if wanted["wheels_archive"]:
        receive(Path(wanted["wheels_archive"]), app.paths.pool)
    platform = platform_of(wanted["python"])
    missing = [one for one in environments if not (app.paths.venvs / one.key).exists()]
    keys = {key for one in missing for key in one.sets}
    bring = {
        "archive": release is not None and not app.paths.path(release).exists() and not has_archive(wanted),
        "sets": [name for name, one in wanted["wheels"].items() if one["key"] in keys and platform not in one["known"]],
        "wheels": lacking((wheel for one in missing for wheel in one.wheels or ()), app.paths.pool),
    }
    return {"needs": {**bring, "platform": platform}} if any(bring.values()) else {}


def has_archive(wanted: Wanted) -> bool:
    """Whether the packed source came along."""
    return bool(wanted["archive"] or wanted["archive_content"])


@contextmanager
def archive(wanted: Wanted) -> Iterator[Path]:
    """The packed source, which came as a file or, where it is small, with the arguments."""
    if wanted["archive"]:
        yield Path(wanted["archive"])
        return
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        file.write(base64.b64decode(wanted["archive_content"]))
        file.flush()
        yield Path(file.name)


def revealed(argument: str) -> Any:
    """A value that came as one text, see ``packing.hidden``."""
    return json.loads(base64.b64decode(argument))


def secrets(wanted: Wanted) -> Secrets:
    """The app's secrets as they are now."""
    return Secrets(**revealed(wanted["secrets"]))


def stage(app: App, wanted: Wanted) -> None:
    """Stage the release that the inventory asks for."""
    release = Release(
        id=wanted["release"],
        files=wanted["files"],
        env=wanted["env"],
        static=wanted["static"],
        record=wanted["record"],
        own_files=revealed(wanted["own_files"]),
        secret_files=tuple(wanted["secret_files"]),
    )
    with archive(wanted) as path:
        staging.stage(app.paths, release, path, environment(wanted, *wanted["wheels"]))


def present(app: App, wanted: Wanted, check_mode: bool) -> Result:
    """Start the first release, or keep the live one running and say what is not deployed."""
    if not check_mode:
        clean_up()
    created = not check_mode and presence.create(app)
    live = app.paths.live()
    router = environment(wanted, "uwsgi") if wanted["router"] and not check_mode else None
    if live:
        undeployed = differences(app.paths.record(live).get("inputs", {}), wanted["record"]["inputs"])
        now, same = secrets(wanted), release_id(live) == wanted["release"]
        if same and not secret_files.has(app.paths, live, now):
            undeployed.append("secrets changed")  # it was started anew, or rolled back to, with others
        result: Result = {
            "changed": not app.programs.is_running(live),
            "release": wanted["release"],
            "undeployed": undeployed,
        }
        if check_mode:
            return result
        if same and secret_files.has(app.paths, live, now):
            result["changed"] |= secret_files.keep(app.paths, now)  # where somebody has edited or removed them
        if router and (lack := needs(app, wanted, None, router)):
            return {**result, **lack}
        if result["changed"]:
            app.programs.start(live)
        return {**result, "changed": http_router.route(app, wanted["router"], router) or result["changed"] or created}
    release = wanted["release"] if wanted["target"] == "inventory" else wanted["target"]
    result = {"changed": True, "release": release, "undeployed": []}
    if check_mode:
        return result
    if not wanted["alone"]:
        return {**result, "changed": created, "joining": True}
    environments = [environment(wanted, *wanted["wheels"]), *([router] if router else [])]
    if not app.paths.path(release).exists() and (lack := needs(app, wanted, release, *environments)):
        return {**result, "changed": False, **lack}
    acquire_lock(app, wanted, "first release", target=release)
    try:
        warm_up.clean_up(app, release, False)
        staging.prepare(app.paths)
        if not app.paths.path(release).exists():
            stage(app, wanted)
        warm_up.equip(app, release, secrets(wanted))
        # There is no old release that runs on what a hook changes: the first one may need it to get warm.
        said = hooks_before(app, wanted, release)
        warm_up.warm_up(app, release)
        switching.switch(app, release, wanted["holder"]["by"], "first release")
        have_singletons(app, wanted)
        app.programs.swap_further()
        http_router.route(app, wanted["router"], router)
        said += hooks_after(app, wanted, release)
    finally:
        app.rollout_lock.release()
    return {**result, "said": said, "apps": {app.name: {"hooks": app.paths.journal().hooks}}}


def export(app: App, wanted: Wanted) -> Result:
    """Pack a release for a host that lacks it."""
    release = wanted["target"]
    if release not in app.paths.on_disk():
        raise ReleaseFailed(f"{app.name}: there is no release {release} on this host; {_on_disk(app)}")
    staging.pack(app.paths, release, Path(wanted["archive"]))
    return {"changed": False, "release": release}


def adopt(app: App, wanted: Wanted) -> Result:
    """Stage a release that another host has packed."""
    release, made_of = wanted["target"], environment(wanted, *wanted["wheels"])
    if release in app.paths.on_disk():
        return {"changed": False, "release": release}
    if made_of.wheels is None:
        raise ReleaseFailed(
            f"{app.name}: the wheelhouse has no wheels of {release} for {made_of.platform}; deploy what it was made "
            "from, or bring the wheelhouse of the controller that did"
        )
    if lack := needs(app, wanted, None, made_of):
        return {"changed": False, "release": release, **lack}
    staging.prepare(app.paths)
    staging.stage_packed(app.paths, release, Path(wanted["archive"]), made_of)
    return {"changed": True, "release": release}


def have_singletons(app: App, wanted: Wanted) -> bool:
    """Let this host be the one for programs that run on one, or not, as far as that is said; whether it was not."""
    return wanted["singletons"] is not None and app.programs.assign_singletons(wanted["singletons"])


def acquire_lock(app: App, wanted: Wanted, what: str, **further: Any) -> Wanted:
    """Acquire the lock, or change its record; break the lock by force, or if its holder is known to be gone.

    :returns: the lock's record.
    """
    break_lock = wanted["force"] or app.rollout_lock.is_held_by(wanted["break_holder"])
    return app.rollout_lock.acquire({**wanted["holder"], "what": what, **further}, break_lock)


def check_lock(app: App, wanted: Wanted) -> None:
    """Check that no other run holds the lock, for a step that acquires none.

    :raises Locked: another run does, and ``force`` is not set.
    """
    if not wanted["force"]:
        app.rollout_lock.check(wanted["holder"]["process"], wanted["break_holder"])


def hooks_before(app: App, wanted: Wanted, release: str) -> list[str]:
    """Run the hooks before the switch, each once per release; where one fails, the release is discarded."""
    try:
        done = wanted["hooks_done"].get(release_id(release), {})
        commands = [command for command in wanted["hooks"]["before_switch"] if command not in done]
        return hooks.run(app.paths, release, commands, wanted["hooks"]["timeout_seconds"], once=True)
    except (ReleaseFailed, OSError):
        warm_up.discard(app, release)
        raise


def hooks_after(app: App, wanted: Wanted, release: str) -> list[str]:
    """Run the hooks after the switch."""
    return hooks.run(
        app.paths, release, wanted["hooks"]["after_switch"], wanted["hooks"]["timeout_seconds"], once=False
    )


def target(app: App, wanted: Wanted, interrupted: Wanted) -> str | None:
    """The name of the release to warm up; None where it is live already.

    :param interrupted: what a rollout that did not come to its end has made live.

    :raises ReleaseFailed: there is none, or it was voided.
    """
    live, asked = app.paths.live(), wanted["target"]
    if not live:
        raise ReleaseFailed(f"{app.name}: no release is live on this host; run site.yml first")
    if asked == "live":
        return live
    if asked == "inventory":
        found = app.paths.name_of(wanted["release"]) or wanted["release"]
    elif asked == "previous":
        if interrupted.get("what") == "rollback" and interrupted["target"] == live:
            return None  # an interrupted one is to be finished, not to go on to the release before that
        found = app.paths.previous()
        if not found:
            raise ReleaseFailed(f"{app.name}: there is no release to roll back to; {_on_disk(app)}")
    else:
        found = asked if asked in app.paths.on_disk() else app.paths.name_of(asked)
        if not found:
            raise ReleaseFailed(f"{app.name}: there is no release {asked} on this host; {_on_disk(app)}")
    if release_id(found) == release_id(live):
        return None
    voided = app.paths.journal().voided.get(release_id(found))
    if voided and not wanted["force"]:
        raise ReleaseFailed(
            f"{app.name}: {found} was voided by {voided['by']} at {voided['since']}, when it was rolled back from; "
            "change something, or make it live again with -e force=true"
        )
    return found


def _on_disk(app: App) -> str:
    journal = app.paths.journal()
    names = [f"{name} (voided)" if release_id(name) in journal.voided else name for name in app.paths.on_disk()]
    return f"on disk: {', '.join(names)}; {app.paths.live()} is live"


def warm(app: App, wanted: Wanted) -> Result:
    """Stage and warm up the target beside the live release; where nothing is to be done the rollout ends here."""
    what = {"live": "restart", "inventory": "deploy"}.get(wanted["target"], "rollback")
    rollout = acquire_lock(app, wanted, what)
    try:
        result = _warm(app, wanted, what, rollout["interrupted"] or {})
    except BaseException:
        app.rollout_lock.release()
        raise
    if not ("switching" in result or "needs" in result):
        app.rollout_lock.release()
    return result


def _warm(app: App, wanted: Wanted, what: str, interrupted: Wanted) -> Result:
    release = target(app, wanted, interrupted)
    live = app.paths.live()
    assert live
    if release is None and wanted["target"] == "inventory" and not secret_files.has(app.paths, live, secrets(wanted)):
        release = live  # the same with other secrets: a copy of it
    if interrupted.get("target") != live:
        interrupted = {}
    if release is None and not interrupted and switching.is_settled(app, wanted["keep_warm"]):
        return {"changed": False, "release": live}
    staged = release is None or app.paths.path(release).exists()
    if not staged and (lack := needs(app, wanted, release, environment(wanted, *wanted["wheels"]))):
        return {"changed": False, "release": release, **lack}
    if release is None and interrupted:
        acquire_lock(app, wanted, **interrupted)
        return {"changed": True, "release": live, "before": interrupted["before"], "switching": interrupted["what"]}
    if release is None:
        switching.retire(app, wanted["keep_releases"], wanted["keep_warm"])
        return {"changed": True, "release": live}
    restart, started = release == live, time.monotonic()
    acquire_lock(app, wanted, what, target=release, before=live)
    warm_up.clean_up(app, None if restart else release, wanted["keep_warm"])
    staging.prepare(app.paths)
    if restart:
        release = staging.copy(app.paths, release)
        acquire_lock(app, wanted, what, target=release, before=live)
    elif not staged:
        stage(app, wanted)
    try:
        warm_up.equip(app, release, secrets(wanted))
    except BaseException:
        warm_up.discard(app, release)
        raise
    warm_up.warm_up(app, release)
    seconds = round(time.monotonic() - started, 1)
    return {"changed": True, "release": release, "before": live, "switching": what, "seconds": seconds}


def before_switch(app: App, wanted: Wanted) -> Result:
    """Run the hooks that must have passed before the switch; where one fails, the new release is removed."""
    release = app.rollout_lock.renew(wanted["holder"]["process"])["target"]
    try:
        return {"changed": True, "release": release, "said": hooks_before(app, wanted, release)}
    except (ReleaseFailed, OSError):
        app.rollout_lock.release()
        raise


def switch(app: App, wanted: Wanted) -> Result:
    """Make what was warmed up live."""
    rollout = app.rollout_lock.renew(wanted["holder"]["process"])
    live, release = app.paths.live(), rollout["target"]
    if release == live:  # where an interrupted run goes on
        return {"changed": False, "release": release}
    log = asdict(Mark.end(wanted["access_log"])) if wanted["access_log"] else None
    app.rollout_lock.renew(rollout["process"], log=log, said=release_log.size(app.paths, release))
    return {"changed": True, "release": release, "at": switching.switch(app, release, rollout["by"], rollout["what"])}


def watch(app: App, wanted: Wanted) -> Result:
    """Watch what the first clients get of what was made live."""
    app.rollout_lock.renew(wanted["holder"]["process"])
    return {
        "changed": False,
        "release": app.paths.live(),
        "traffic": asdict(switching.watch_canary(app, wanted["canary"])),
    }


def confirm(app: App, wanted: Wanted) -> Result:
    """See that what was made live answers, before it can't be undone any more."""
    release = app.rollout_lock.renew(wanted["holder"]["process"])["target"]
    if app.paths.live() != release:
        raise ReleaseFailed(f"{app.name}: {app.paths.live()} is live, and not {release}")
    if problem := health.probe(app.paths, release, app.paths.entry(release)["health"]["timeout_seconds"]):
        raise ReleaseFailed(f"{app.name} {release} is live, and {problem}")
    return {"changed": False, "release": release}


def undo(app: App, wanted: Wanted) -> Result:
    """Take back what this rollout has done."""
    return {"changed": switching.roll_back(app, wanted["keep_warm"]), "release": app.paths.live()}


def after_switch(app: App, wanted: Wanted) -> Result:
    """Run the hooks that follow the switch."""
    live = app.paths.live()
    assert live
    return {"changed": True, "release": live, "said": hooks_after(app, wanted, live)}


def retire(app: App, wanted: Wanted) -> Result:
    """Stop and prune what is not live any more."""
    app.rollout_lock.renew(wanted["holder"]["process"])
    seen = asdict(switching.traffic_since_switch(app))
    have_singletons(app, wanted)
    switching.retire(app, wanted["keep_releases"], wanted["keep_warm"])
    return {"changed": True, "release": app.paths.live(), "traffic": seen}


def singletons(app: App, wanted: Wanted) -> Result:
    """Start the programs that run on one host here, or stop them."""
    check_lock(app, wanted)
    changed = have_singletons(app, wanted)
    if changed and app.paths.live():
        app.programs.swap_further()
    return {"changed": changed, "release": app.paths.live()}


def absent(app: App, wanted: Wanted) -> Result:
    """Remove the app."""
    check_lock(app, wanted)
    return {"changed": presence.remove(app, wanted["purge"], wanted["holder"]["by"]), "release": None}


def wheels(app: App, wanted: Wanted) -> Result:
    """Say which sets of wheels the controller has not for this platform."""
    platform = platform_of(wanted["python"])
    unknown = [name for name, one in wanted["wheels"].items() if platform not in one["known"]]
    result: Result = {"changed": False, "release": None, "platform": platform}
    return result | (
        {"needs": {"platform": platform, "sets": unknown, "wheels": [], "archive": False}} if unknown else {}
    )


STEPS = {
    "wheels": wheels,
    "export": export,
    "import": adopt,
    "warm": warm,
    "before_switch": before_switch,
    "live": switch,
    "watch": watch,
    "confirm": confirm,
    "undo": undo,
    "after_switch": after_switch,
    "retire": retire,
    "singletons": singletons,
    "absent": absent,
}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "step": {"type": "str", "default": "present", "choices": ["present", *STEPS]},
    "target": {"type": "str", "default": "inventory"},
    "force": {"type": "bool", "default": False},
    "purge": {"type": "bool", "default": False},
    "alone": {"type": "bool", "default": True},
    "singletons": {"type": "bool"},
    "keep_releases": {"type": "int", "default": 5},
    "keep_warm": {"type": "bool", "default": False},
    "holder": {"type": "dict", "default": {}},
    "break_holder": {"type": "str", "default": "nobody"},
    "hooks": {"type": "dict", "default": {}},
    "hooks_done": {"type": "dict", "default": {}},
    "canary": {"type": "dict", "default": {}},
    "access_log": {"type": "path"},
    "release": {"type": "str"},
    "archive": {"type": "path"},
    "archive_content": {"type": "str", "no_log": True},  # in base64; too long to be shown
    "files": {"type": "dict", "default": {}},
    "router": {"type": "str"},
    "env": {"type": "dict", "default": {}},
    "secrets": {"type": "str", "no_log": True},  # as one text, see packing.hidden
    "secret_files": {"type": "list", "elements": "str", "default": [], "no_log": False},  # their paths
    "own_files": {"type": "str", "no_log": True},  # the same
    "static": {"type": "dict", "default": {}},
    "python": {"type": "path"},
    "wheels": {"type": "dict", "default": {}},
    "wheels_archive": {"type": "path"},
    "record": {"type": "dict", "default": {}},
}


def run(app: App, wanted: Wanted, check_mode: bool) -> Result:
    """Take a step; the module's result."""
    # Before the lock of a step, which a hook of another rollout may hold for long.
    if wanted["step"] == "undo" and not app.rollout_lock.is_held_by(wanted["holder"]["process"]):
        return {"changed": False, "release": app.paths.live(), "live": app.paths.live(), "said": []}
    if wanted["step"] in ("warm", "singletons", "absent") and not check_mode:
        check_lock(app, wanted)
    if wanted["step"] == "absent" and (check_mode or not presence.is_present(app, wanted["purge"])):
        return {
            "changed": presence.is_present(app, wanted["purge"]),
            "release": None,
            "live": app.paths.live(),
            "said": [],
        }
    with nullcontext() if check_mode or wanted["step"] == "wheels" else app.rollout_lock.one_step():
        if wanted["step"] == "present":
            result = present(app, wanted, check_mode)
        elif check_mode and wanted["step"] == "singletons":
            result = {
                "changed": wanted["singletons"] != app.paths.singletons_file.exists(),
                "release": app.paths.live(),
            }
        elif check_mode and wanted["step"] != "wheels":
            result = {"changed": not app.paths.live() or target(app, wanted, {}) is not None, "release": None}
        else:
            result = STEPS[wanted["step"]](app, wanted)
        return {"said": [], **result, "live": app.paths.live()}


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name has packed and rendered."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
    )
    os.umask(0o022)  # a hardened root's would lock the app out of its own release
    if module.params["step"] in ("warm", "retire"):
        os.nice(10)  # what answers goes first
    name = module.params["name"]
    try:
        app = App(name, supervisor(SUPERVISOR_SOCKET))
        result = run(app, module.params, module.check_mode)
    except Locked as locked:
        module.fail_json(msg=str(locked), holder=locked.holder)
    except (ReleaseFailed, EnvironmentFailed, WheelFailed, UserFailed) as error:
        module.fail_json(msg=str(error))
    except xmlrpc.client.Fault as fault:
        module.fail_json(msg=f"{name}: Supervisor refused ({fault.faultString}); see supervisorctl reread")
    except OSError as error:
        hint = "; is Supervisor running?" if error.filename == SUPERVISOR_SOCKET else ""
        module.fail_json(msg=f"{name}: {error}{hint}")
    if result.get("undeployed"):
        module.warn(f"{name}: undeployed changes: {', '.join(result['undeployed'])}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
