"""The action plugins: the arguments of the modules, and the builds and uploads that a host needs."""

from __future__ import annotations

import base64
import getpass
import hashlib
import io
import json
import os
import posixpath
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from action import app_rollout as app_rollout_action
from action import app_wheels as app_wheels_action
from action import config_tree as config_tree_action
from action import flask_app as flask_app_action
from ansible.errors import AnsibleActionFail
from ansible.module_utils.flaskfleet import uploads
from ansible.module_utils.testing import patch_module_args
from ansible.modules import app_rollout, app_wheels, flask_app
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from examples import PLATFORM
from plugin_utils import app_action, cache, exporters, packing, release_inputs, run_identity, sources, wheel_sets
from plugin_utils import built as built_module
from plugin_utils.entries import complete

HERE = run_identity.process_token(os.getpid())
HOST = {"ansible_facts": {"processor_nproc": 2}, "inventory_hostname": "app1"}
NOTHING = {"archive": False, "sets": [], "wheels": [], "platform": PLATFORM}


def make_action(plugin: Any, arguments: dict[str, Any], role: Path | None = None) -> Any:
    """Make an action whose module is recorded instead of executed."""
    task = MagicMock(
        args=arguments, async_val=0, check_mode=False, _role=role and SimpleNamespace(_role_path=str(role))
    )
    action = plugin.ActionModule(task, MagicMock(), MagicMock(), DataLoader(), Templar(DataLoader()), MagicMock())
    action._execute_module = MagicMock(return_value={})
    return action


# config_tree


@pytest.fixture
def role(tmp_path: Path) -> Path:
    (tmp_path / "templates/etc").mkdir(parents=True)
    (tmp_path / "templates/etc/{site}.conf.j2").write_text("{{ site.name }} {{ ansible_facts.processor_nproc }}\n")
    return tmp_path


def test_config_tree_hands_the_rendered_tree_to_its_module(role: Path) -> None:
    arguments = {"name": "nginx", "each": {"site": [{"name": "blog"}]}, "modes": {"*": "0600"}, "running": "http://x"}
    action = make_action(config_tree_action, arguments, role)
    action.run(task_vars=HOST)
    name, sent = action._execute_module.call_args.args
    assert len(sent.pop("tree")) == 12
    files = [{"path": "/etc/blog.conf", "content": "blog 2\n", "mode": "0600"}]
    assert json.loads(sent.pop("rendered")) == {"files": files}
    assert (name, sent) == (
        "config_tree",
        {
            "name": "nginx",
            "running": "http://x",
        },
    )


def test_config_tree_renders_nothing_to_wait(role: Path) -> None:
    action = make_action(config_tree_action, {"name": "nginx", "state": "running"}, role)
    action.run(task_vars=HOST)
    assert action._execute_module.call_args.args[1] == {"name": "nginx", "state": "running"}


def test_config_tree_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=f"there is no folder {tmp_path}/bare/templates"):
        make_action(config_tree_action, {"name": "nginx"}, tmp_path / "bare").run(task_vars=HOST)


# apps

WHEELS = {
    "uwsgi": {"requirements": "uwsgi==2.0.31", "isolation": False, "gcc": "auto", "prebuilt": ""},
    "build": {
        "tools": "wheel==1",
        "packages": ["gcc"],
        "index_url": "https://me:s3cret@pypi.example/simple",
        "keep_toolchain": False,
    },
    "builder": "",
}


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An entry of flask_apps with all its defaults, and its source."""
    for module in (cache, packing, release_inputs, sources, wheel_sets):
        monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    source = tmp_path / "blog"
    source.mkdir()
    (source / "app.py").write_text("app = None\n")
    (source / "requirements.txt").write_text("flask\n")
    given = {
        "source": {"path": str(source)},
        "wsgi": "app:app",
        "server_names": ["*.blog.example", "blog.example"],
        "env": {"NUMBER": 8, "TEXT": "{{ not a template }}"},
        "secret_env": {"KEY": "s3cret", "PORT": 8},
        "secret_files": {"instance/config.py": "KEY = 's3cret'"},
        "static": {"/static": "static"},
    }
    return complete({"blog": given})["blog"]


@pytest.fixture
def release(entry: dict[str, Any], tmp_path: Path) -> Callable[..., Any]:
    """A function that makes the action for the entry with some of it, and of the other arguments, changed."""
    templates = tmp_path / "release"
    templates.mkdir()
    (templates / "uwsgi.ini.j2").write_text(
        "{{ app.name }} {{ settings.listen }} {{ release.path }} {{ ansible_facts.processor_nproc }}\n"
    )
    (tmp_path / "router.j2").write_text("{{ app.name }} {{ app.http }} {{ settings.listen }}\n")

    def make(arguments: dict[str, Any] | None = None, plugin: Any = flask_app_action, **changed: Any) -> Any:
        app, common = {**entry, **changed}, {"wheels": {**WHEELS, "house": str(tmp_path / "house")}}
        if plugin is app_rollout_action:
            common |= {"phases": ["warm_up"], "apps": ["blog"], "entries": {"blog": app}}
        else:
            common |= {"app": app}
        if plugin is not app_wheels_action:
            common |= {
                "templates": [str(templates)],
                "router_template": str(tmp_path / "router.j2"),
                "settings": {"uwsgi_version": "2.0.31", "listen": 1024},
            }
        action = make_action(plugin, {**common, **(arguments or {})})
        action._transfer_file = MagicMock(side_effect=lambda local, remote: f"/tmp/{Path(local).name}")
        action._remove_tmp_path = MagicMock()
        action._connection._shell = SimpleNamespace(tmpdir="/tmp/task", join_path=posixpath.join)
        return action

    return make


def sent(action: Any, host: dict[str, Any] = HOST) -> dict[str, Any]:
    action.run(task_vars=host)
    return action._execute_module.call_args.args[1]


def sent_of_app(action: Any) -> dict[str, Any]:
    """The arguments of app_rollout for its first app."""
    return sent(action)["apps"][0]


def broke(action: Any) -> list[str | None]:
    """The holder whose lock each call of the module was to break."""
    return [call.args[1].get("break_holders") for call in action._execute_module.call_args_list]


# arguments of modules

COMMON = {"name", "hooks", "secrets"}
RELEASE = {
    "release", "files", "router", "env", "static", "python", "wheels", "record", "own_files", "secret_files",
}  # fmt: skip
ALWAYS = {"name", "holder", "state", "target", "force", "alone", "singletons", "hooks_done", "purge"}
OF_APP = {*COMMON, "target", "access_log", "hooks_done", "singletons", "canary"}


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """A function that checks that a module accepts its arguments."""

    def accepted(module: Any, handed: dict[str, Any]) -> None:
        monkeypatch.setattr(module.phases if module is app_rollout else module, "run", lambda *_: {})
        with patch_module_args(handed), pytest.raises(SystemExit):
            module.main()
        assert "failed" not in json.loads(capsys.readouterr().out)

    return accepted


@pytest.mark.parametrize(
    ("arguments", "names"), [({}, {*ALWAYS, *COMMON, *RELEASE}), ({"state": "absent"}, ALWAYS)], ids=["there", "gone"]
)
def test_flask_app_is_handed_what_it_needs(
    release: Callable[..., Any], accepted: Callable[..., None], arguments: dict[str, str], names: set[str]
) -> None:
    handed = sent(release(arguments))
    assert handed.keys() == names
    accepted(flask_app, handed)


def test_app_wheels_is_handed_what_it_needs(release: Callable[..., Any], accepted: Callable[..., None]) -> None:
    handed = sent(release(plugin=app_wheels_action))
    assert handed.keys() == {"python", "wheels"}
    accepted(app_wheels, handed)


@pytest.mark.parametrize(
    ("phases", "target", "names"),
    [
        (["warm_up"], "inventory", {*OF_APP, *RELEASE, "archive_content"}),
        (["warm_up"], "previous", OF_APP),
        (["warm_up"], "live", OF_APP),
        (["before_switch", "switch", "watch", "confirm"], "inventory", OF_APP),
        (["after_switch", "retire"], "inventory", OF_APP),
    ],
)
def test_app_rollout_is_handed_what_its_phases_need(
    release: Callable[..., Any], accepted: Callable[..., None], phases: list[str], target: str, names: set[str]
) -> None:
    handed = sent(release({"phases": phases, "target": target}, app_rollout_action))
    assert handed.keys() == {"phases", "apps", "force", "keep_releases", "keep_warm", "holder"}
    (app,) = handed["apps"]
    assert app.keys() == names
    accepted(app_rollout, handed)


def test_each_app_of_a_rollout_has_its_own_options(release: Callable[..., Any], entry: dict[str, Any]) -> None:
    done = {"1a2b": {"flask db upgrade": "at ten"}}
    options = {
        "phases": ["warm_up"], "apps": ["blog", "shop"], "entries": {"blog": entry, "shop": {**entry, "name": "shop"}},
        "targets": {"shop": "1a2b"}, "hooks_done": {"shop": done}, "singletons": {"blog": True},
        "access_log": "/var/log/nginx/{app}.log", "watched": ["blog"], "canary": {"seconds": 1},
    }  # fmt: skip
    blog, shop = sent(release(options, app_rollout_action))["apps"]
    names = ("target", "hooks_done", "singletons", "access_log", "canary")
    assert [blog[name] for name in names] == ["inventory", {}, True, "/var/log/nginx/blog.log", {"seconds": 1}]
    assert [shop[name] for name in names] == ["1a2b", done, None, "/var/log/nginx/shop.log", None]


def test_a_rollout_without_apps_asks_the_host_nothing(release: Callable[..., Any]) -> None:
    action = release({"apps": []}, app_rollout_action)
    assert action.run(task_vars=HOST) == {"changed": False, "apps": {}}
    assert not action._execute_module.called


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"stat": "absent"}, "stat. Supported parameters include: alone, app"),
        ({"state": "gone"}, "value of state must be one of: present, absent, got: gone"),
        ({"templates": {}}, "'templates' is of type dict"),
    ],
)
def test_an_unknown_option_of_a_module_is_refused(
    release: Callable[..., Any], option: dict[str, Any], words: str
) -> None:
    with pytest.raises(AnsibleActionFail, match=f"^flask_app: .*{words}"):
        release(option).run(task_vars=HOST)


@pytest.mark.parametrize(("small", "goes_along"), [(1_000_000, [True, True]), (300, [True, False]), (10, [False] * 2)])
def test_small_sources_are_sent_with_the_first_call_up_to_a_limit(
    release: Callable[..., Any],
    entry: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    small: int,
    goes_along: list[bool],
) -> None:
    monkeypatch.setattr(app_rollout_action, "SMALL_BYTES", small)
    apps = {"blog": entry, "shop": {**entry, "name": "shop"}}
    handed = sent(release({"apps": [*apps], "entries": apps}, app_rollout_action))["apps"]
    assert ["archive_content" in one for one in handed] == goes_along
    if goes_along[0]:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(handed[0]["archive_content"]))) as tar:
            assert "src/app.py" in tar.getnames()


def test_only_apps_that_lack_something_are_in_the_second_call(
    release: Callable[..., Any], entry: dict[str, Any]
) -> None:
    apps = {"blog": entry, "shop": {**entry, "name": "shop"}}
    action = release({"apps": [*apps], "entries": apps}, app_rollout_action)
    action._execute_module.side_effect = [
        {"apps": {"blog": {"changed": True, "live": "1a"}, "shop": {"needs": {**NOTHING, "archive": True}}}},
        {"apps": {"shop": {"changed": False, "live": "2b"}}},
    ]
    result = action.run(task_vars=HOST)
    assert [[one["name"] for one in call.args[1]["apps"]] for call in action._execute_module.call_args_list] == [
        ["blog", "shop"], ["shop"],
    ]  # fmt: skip
    assert (result["changed"], {name: one["live"] for name, one in result["apps"].items()}) == (
        True, {"blog": "1a", "shop": "2b"},
    )  # fmt: skip


@pytest.mark.parametrize("number", [2, 3])
def test_each_app_of_a_rollout_has_its_own_wheels(
    hosted: Callable[..., Any], entry: dict[str, Any], number: int
) -> None:
    """Also if all of them are built first."""
    apps = {f"app{one}": {**entry, "name": f"app{one}"} for one in range(number)}
    lacks = {"wheels": [wheel_of("flask")["sha256"]], "sets": [], "archive": False, "platform": PLATFORM}
    action = hosted(
        {"apps": dict.fromkeys(apps, LACKS_APP)},
        built("flask"),
        {"apps": {name: {"needs": {**lacks}} for name in apps}},
        {"apps": {name: {"changed": True} for name in apps}},
        plugin=app_rollout_action,
        arguments={"apps": [*apps], "entries": apps},
    )
    assert action.run(task_vars=HOST)["changed"]
    brought = [one["wheels_archive"] for one in asked(action)[-1][1]["apps"]]
    assert len({*brought}) == number
    assert {posixpath.basename(path) for path in brought} == action.packed.keys()


@pytest.mark.parametrize(
    ("plugin", "option"),
    [
        (app_rollout_action, {"force": True}), (app_rollout_action, {"keep_releases": 3}),
        (app_rollout_action, {"keep_warm": True}), (flask_app_action, {"force": True}),
        (flask_app_action, {"purge": True}),
    ],
)  # fmt: skip
def test_an_option_reaches_its_module(release: Callable[..., Any], plugin: Any, option: dict[str, Any]) -> None:
    (name,) = option
    assert sent(release(option, plugin))[name] == option[name]


def test_an_app_that_was_removed_from_the_inventory_can_be_removed_from_hosts() -> None:
    action = make_action(flask_app_action, {"state": "absent", "app": {"name": "blog"}, "purge": True})
    action._execute_module.return_value = {"changed": True}
    assert action.run(task_vars=HOST) == {"changed": True, "app": "blog"}


@pytest.mark.parametrize(("sudo", "user"), [("alice", "alice"), (None, "root")])
def test_the_holder_of_a_lock_is_the_parent_of_ansibles_workers(
    release: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, sudo: str | None, user: str
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "root")
    monkeypatch.setenv("SUDO_USER", sudo) if sudo else monkeypatch.delenv("SUDO_USER", raising=False)
    assert sent(release())["holder"] == {
        "process": run_identity.process_token(os.getppid()),
        "by": f"{user}@{socket.gethostname()}",
    }


def test_a_releases_files_are_rendered_for_the_host(release: Callable[..., Any]) -> None:
    arguments = sent(release())
    name = arguments["release"]
    assert arguments["files"] == {"uwsgi.ini": f"blog 1024 /srv/blog/releases/{name} 2\n"}


@pytest.mark.parametrize(("http", "router"), [(None, None), (":8080", "blog :8080 1024\n")])
def test_an_app_that_listens_for_http_has_a_router(
    release: Callable[..., Any], http: str | None, router: str | None
) -> None:
    assert sent(release(http=http))["router"] == router


def test_facts_make_no_other_release(release: Callable[..., Any]) -> None:
    """Two hosts with the same inputs have the same."""
    other = {"ansible_facts": {"processor_nproc": 64}}
    action = release()
    assert sent(action)["release"] == sent(action, other)["release"]


def test_a_setting_makes_another_release(release: Callable[..., Any]) -> None:
    assert sent(release())["release"] != sent(release(processes=8))["release"]


def test_a_release_has_its_app_and_id_as_variables(release: Callable[..., Any]) -> None:
    arguments = sent(release())
    assert arguments["env"] == {
        "NUMBER": "8",
        "TEXT": "{{ not a template }}",
        "FLASKFLEET_APP": "blog",
        "FLASKFLEET_RELEASE": arguments["release"],
        "FLASKFLEET_SHARED": "/srv/blog/shared",
    }


def test_a_release_records_its_inputs(release: Callable[..., Any], tmp_path: Path) -> None:
    arguments = sent(release())
    record = arguments["record"]
    assert (record["app"], record["release"]) == ("blog", arguments["release"])
    assert record["source"] == {"path": f"{tmp_path}/blog"}
    assert record["inputs"]["entry"]["wsgi"] == "app:app"


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["*.blog.example", "b.example"], "blog.example"),
        (["b.example"], "b.example"),
        (["fd00::1"], "[fd00::1]"),
        ([], "localhost"),
    ],
)
def test_the_health_check_uses_a_server_name_that_exists(
    release: Callable[..., Any], names: list[str], host: str
) -> None:
    assert sent(release(server_names=names))["record"]["host"] == host


def test_secrets_are_a_separate_argument(release: Callable[..., Any]) -> None:
    arguments = sent(release())
    told = uploads._decode(arguments.pop("secrets"))
    assert (told["env"], told["files"]) == ({"KEY": "s3cret", "PORT": "8"}, {"instance/config.py": "KEY = 's3cret'"})
    assert arguments["secret_files"] == ["instance/config.py"]
    assert "s3cret" not in json.dumps(arguments)


def test_no_log_arguments_are_long_texts(release: Callable[..., Any]) -> None:
    """If a no_log argument had the value 8, Ansible would mask each 8 of an id or a time."""
    handed = sent(release(secret_env={"PORT": "8"}))
    hidden = [value for name, value in handed.items() if uploads.ARGUMENTS.get(name, {}).get("no_log")]
    assert hidden
    assert all(isinstance(value, str) and len(value) >= 4 for value in hidden)


# apps: the source


def test_a_host_that_lacks_the_source_is_sent_it(release: Callable[..., Any]) -> None:
    action = release()
    packed = []
    action._transfer_file = lambda local, remote: packed.append(Path(local).read_bytes()) or "/tmp/there.tar.gz"
    action._execute_module.side_effect = [{"needs": {**NOTHING, "archive": True}}, {"changed": True}]
    assert action.run(task_vars=HOST)["changed"]
    with tarfile.open(fileobj=io.BytesIO(packed[0])) as tar:
        assert "src/app.py" in tar.getnames()
    assert action._execute_module.call_args.args[1]["archive"] == "/tmp/there.tar.gz"


@pytest.mark.parametrize("tmpdir", ["/tmp/task", None], ids=["there", "to be made"])
def test_uploads_lie_in_the_folder_that_is_removed_with_the_task(
    release: Callable[..., Any], tmpdir: str | None
) -> None:
    action = release()
    action._connection._shell.tmpdir = tmpdir
    action._make_tmp_path = MagicMock(return_value="/tmp/task")
    action._execute_module.side_effect = [{"needs": {**NOTHING, "archive": True}}, {"changed": True}]
    action.run(task_vars=HOST)
    ((_, there),) = [call.args for call in action._transfer_file.call_args_list]
    assert posixpath.dirname(there) == "/tmp/task"


@pytest.mark.parametrize(
    ("answer", "check_mode"),
    [({"changed": False}, False), ({"needs": {**NOTHING, "archive": True}}, True)],
    ids=["has it", "check"],
)
def test_a_source_that_the_host_has_is_not_uploaded(
    release: Callable[..., Any], answer: dict[str, Any], check_mode: bool
) -> None:
    action = release()
    action._task.check_mode = check_mode
    action._execute_module.return_value = answer
    action.run(task_vars=HOST)
    assert not action._transfer_file.called
    assert "archive" not in action._execute_module.call_args.args[1]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source": {"path": "/no/such/folder"}}, "/no/such/folder"),
        ({"requirements": "lock.txt"}, "there is no file .*/blog/lock.txt"),
    ],
)
def test_a_source_that_cannot_be_packed_is_named_with_its_app(
    release: Callable[..., Any], changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(AnsibleActionFail, match=rf"flask_apps\.blog: .*{words}"):
        release(**changed).run(task_vars=HOST)


# apps: wheels

LACKS_ALL = {"needs": {**NOTHING, "sets": ["uwsgi", "app"]}}
LACKS_APP = {"needs": {**NOTHING, "sets": ["app"]}}


def wheel_of(name: str) -> dict[str, str]:
    return {"file": f"{name}-1.0-py3-none-any.whl", "sha256": hashlib.sha256(name.encode()).hexdigest()}


def built(*names: str) -> dict[str, Any]:
    """The result of the module wheel_set."""
    return {"changed": True, "wheels": [wheel_of(name) for name in names], "compiled": [], "tried": ["by gcc"]}


@pytest.fixture
def hosted(release: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes an action for a host whose modules answer this, in turn, and a wheel of each of its sets.

    ``packed`` of the action has the members of all tars that were sent, by name.
    """

    def make(*answers: Any, arguments: dict[str, Any] | None = None, altered: bool = False, **changed: Any) -> Any:
        action = release(arguments, **changed)
        action._execute_module.side_effect = answers
        action.packed = {}

        def transfer(local: str, remote: str) -> str:
            name = posixpath.basename(remote)
            assert name not in action.packed, "it would take another one's place"
            with tarfile.open(local) as tar:
                action.packed[name] = tar.getnames()
            return remote

        def fetch(remote: str, local: str) -> None:
            assert remote == action._execute_module.call_args.args[1]["archive"]
            with tarfile.open(local, "w") as tar:
                for answer in answers:
                    for wheel in answer.get("wheels", []) if isinstance(answer, dict) else []:
                        content = wheel["file"].partition("-")[0].encode() + b"altered" * altered
                        member = tarfile.TarInfo(f"{wheel['sha256']}/{wheel['file']}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))

        action._transfer_file = transfer
        action._connection.fetch_file = fetch
        return action

    return make


def asked(action: Any) -> list[tuple[str, dict[str, Any]]]:
    """The modules that an action has called, with their arguments."""
    return [call.args for call in action._execute_module.call_args_list]


def wheels_in(action: Any) -> list[str]:
    """The uploaded wheels."""
    (names,) = (names for name, names in action.packed.items() if name.startswith("wheels-"))
    return names


def modules(action: Any) -> list[str]:
    return [name for name, _ in asked(action)]


def sets_in(house: Path) -> list[str]:
    """The platforms and interpreters that a wheelhouse has sets for."""
    return sorted(f"{path.parent.name}/{path.name.partition('-')[0]}" for path in house.glob("*/*.json"))


def test_missing_wheels_are_built_on_the_host_and_uploaded_there(
    hosted: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks = {"needs": {**NOTHING, "wheels": [wheel_of(name)["sha256"] for name in ("uwsgi", "flask")]}}
    shown: list[str] = []
    monkeypatch.setattr(app_action, "Display", lambda: SimpleNamespace(display=shown.append))
    action = hosted(LACKS_ALL, built("uwsgi"), built("flask"), lacks, {"changed": True})
    assert action.run(task_vars=HOST)["changed"]
    assert [line.strip() for line in shown if "building" in line] == [
        f"app1: building the wheels of {of} for all hosts of the platform {PLATFORM}; compiling takes minutes"
        for of in ("uWSGI", "blog")
    ]
    assert modules(action) == ["flask_app", "wheel_set", "wheel_set", "flask_app", "flask_app"]
    assert sets_in(tmp_path / "house") == [PLATFORM, PLATFORM]
    assert sorted(wheels_in(action)) == sorted(
        f"{wheel['sha256']}/{wheel['file']}" for wheel in map(wheel_of, ("uwsgi", "flask"))
    )
    handed = asked(action)[-1][1]
    assert posixpath.basename(handed["wheels_archive"]) in action.packed
    assert {name: one["known"] for name, one in handed["wheels"].items()} == {
        "uwsgi": {PLATFORM: [wheel_of("uwsgi")]},
        "app": {PLATFORM: [wheel_of("flask")]},
    }


def test_a_host_builds_by_the_recipe_of_the_inventory(hosted: Callable[..., Any]) -> None:
    action = hosted(LACKS_ALL, built("uwsgi"), built("flask"), {"changed": True})
    action.run(task_vars=HOST)
    uwsgi, app = (arguments for name, arguments in asked(action) if name == "wheel_set")
    assert (uwsgi["python"], uwsgi["archive"]) == ("/usr/bin/python3", "/tmp/task/built.tar")
    common = {name: value for name, value in WHEELS["build"].items() if name != "index_url"}
    project = {"constraints": "", "dependencies": None}
    assert uwsgi["recipe"] == {**WHEELS["uwsgi"], "variables": {}, "build_packages": (), **project, **common}
    rest = {"isolation": True, "gcc": "", "prebuilt": "", "variables": {}, "build_packages": (), **project}
    assert app["recipe"] == {"requirements": "flask\n", **rest, **common}
    assert (uwsgi["index_url"], app["index_url"]) == (WHEELS["build"]["index_url"],) * 2


def test_a_host_gets_only_the_known_wheels_that_it_lacks(hosted: Callable[..., Any]) -> None:
    hosted(LACKS_ALL, built("uwsgi"), built("flask"), {}).run(task_vars=HOST)
    flask = wheel_of("flask")
    action = hosted({"needs": {**NOTHING, "wheels": [flask["sha256"]]}}, {"changed": True})
    action.run(task_vars=HOST)
    assert modules(action) == ["flask_app", "flask_app"]
    assert [*action.packed.values()] == [[f"{flask['sha256']}/{flask['file']}"]]


def test_a_set_that_another_host_built_meanwhile_is_not_built_again(hosted: Callable[..., Any]) -> None:
    """Ansible forks for each host, and all of them ask at once."""
    hosted(LACKS_APP, built("flask"), {}).run(task_vars=HOST)
    action = hosted(LACKS_APP, {"changed": True})
    assert action.run(task_vars=HOST)["changed"]
    assert asked(action)[-1][1]["wheels"]["app"]["known"] == {PLATFORM: [wheel_of("flask")]}


def test_wheels_and_a_source_come_together(hosted: Callable[..., Any]) -> None:
    hosted(LACKS_APP, built("flask"), {}).run(task_vars=HOST)
    needs = {**NOTHING, "archive": True, "wheels": [wheel_of("flask")["sha256"]]}
    action = hosted({"needs": needs}, {"changed": True})
    action.run(task_vars=HOST)
    handed = asked(action)[-1][1]
    assert {posixpath.basename(handed[name]) for name in ("wheels_archive", "archive")} == action.packed.keys()


def test_wheels_that_no_index_has_are_sent_to_the_builder(hosted: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("a.whl", "b.whl"):
        (tmp_path / name).write_text(name)
    wheels = [str(tmp_path / name) for name in ("a.whl", "b.whl")]
    action = hosted(LACKS_ALL, built("uwsgi"), built("flask"), {}, wheels=wheels)
    action.run(task_vars=HOST)
    uwsgi, app = (arguments for name, arguments in asked(action) if name == "wheel_set")
    assert "further" not in uwsgi
    assert action.packed[posixpath.basename(app["further"])] == ["a.whl", "b.whl"]


def test_the_message_of_a_failed_build_has_the_hosts_message(hosted: Callable[..., Any], tmp_path: Path) -> None:
    action = hosted(LACKS_APP, {"failed": True, "msg": "tried flask by gcc: no"})
    with pytest.raises(AnsibleActionFail, match=f"no wheels for {PLATFORM} on app1: tried flask by gcc: no"):
        action.run(task_vars=HOST)
    assert sets_in(tmp_path / "house") == []


def test_a_failed_build_is_not_tried_on_each_host(hosted: Callable[..., Any]) -> None:
    with pytest.raises(AnsibleActionFail):
        hosted(LACKS_APP, {"failed": True, "build_failed": True, "msg": "no"}).run(task_vars=HOST)
    action = hosted(LACKS_APP)
    with pytest.raises(AnsibleActionFail, match=r"^flask_apps\.blog: app1: .*: no"):
        action.run(task_vars={**HOST, "inventory_hostname": "app2"})
    assert modules(action) == ["flask_app"]


def test_another_host_builds_if_the_first_fails_for_its_own_reasons(hosted: Callable[..., Any]) -> None:
    with pytest.raises(AnsibleActionFail, match="disk full"):
        hosted(LACKS_APP, {"failed": True, "msg": "disk full"}).run(task_vars=HOST)
    action = hosted(LACKS_APP, built("flask"), {"changed": True})
    assert action.run(task_vars={**HOST, "inventory_hostname": "app2"})["changed"]


def test_a_wheel_that_was_altered_on_its_way_is_refused(hosted: Callable[..., Any], tmp_path: Path) -> None:
    action = hosted(LACKS_APP, built("flask"), altered=True)
    with pytest.raises(AnsibleActionFail, match=r"^flask_apps\.blog: .*/flask-1\.0-py3-none-any\.whl was altered"):
        action.run(task_vars=HOST)
    assert sets_in(tmp_path / "house") == []


def test_an_altered_wheel_of_the_wheelhouse_is_named(hosted: Callable[..., Any], tmp_path: Path) -> None:
    hosted(LACKS_APP, built("flask"), {}).run(task_vars=HOST)
    flask = wheel_of("flask")["sha256"]
    (wheel,) = (tmp_path / "house").glob(f"*/{flask}/*.whl")
    wheel.write_text("altered")
    with pytest.raises(AnsibleActionFail, match=r"^flask_apps\.blog: .*\.whl was altered"):
        hosted({"needs": {**NOTHING, "wheels": [flask]}}).run(task_vars=HOST)


@pytest.mark.parametrize(("builder", "builds"), [("", True), ("app1", True), ("app2", False)])
def test_if_the_inventory_names_a_builder_no_other_host_builds(
    hosted: Callable[..., Any], tmp_path: Path, builder: str, builds: bool
) -> None:
    wheels = {**WHEELS, "builder": builder, "house": str(tmp_path / "house")}
    action = hosted(LACKS_APP, built("flask"), {"changed": True}, arguments={"wheels": wheels})
    words = rf"python_builder is app2, and it has not built what app1 \({PLATFORM}\) lacks"
    with nullcontext() if builds else pytest.raises(AnsibleActionFail, match=words):
        action.run(task_vars=HOST)
    assert ("wheel_set" in modules(action)) == builds


def test_a_builder_builds_what_another_host_of_the_run_has_missed(hosted: Callable[..., Any], tmp_path: Path) -> None:
    wheels = {"wheels": {**WHEELS, "builder": "app2", "house": str(tmp_path / "house")}}
    with suppress(AnsibleActionFail):
        hosted(LACKS_APP, arguments=wheels).run(task_vars=HOST)
    action = hosted(LACKS_APP, built("flask"), {"changed": True}, arguments=wheels)
    assert action.run(task_vars={**HOST, "inventory_hostname": "app2"})["changed"]


def test_a_host_that_still_lacks_what_it_was_sent_is_a_failure(hosted: Callable[..., Any]) -> None:
    hosted(LACKS_APP, built("flask"), {}).run(task_vars=HOST)
    lacks = {"needs": {**NOTHING, "wheels": [wheel_of("flask")["sha256"]]}}
    words = rf"^flask_apps\.blog: the host \({PLATFORM}\) still lacks wheels by hash: 1, which were uploaded; run again"
    with pytest.raises(AnsibleActionFail, match=words):
        hosted(lacks, lacks, lacks).run(task_vars=HOST)


def test_a_builder_is_sent_nothing(hosted: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is packed nevertheless, so that the controller can work offline afterwards."""
    monkeypatch.setattr(wheel_sets, "PROJECT", tmp_path)
    answers = [LACKS_ALL, built("uwsgi"), built("flask"), {"changed": False, "platform": PLATFORM}]
    action = hosted(*answers, plugin=app_wheels_action)
    action.run(task_vars=HOST)
    assert (sets_in(tmp_path / "house"), action.packed) == ([PLATFORM, PLATFORM], {})
    assert len(list((tmp_path / "cache/packed").glob("*.tar.gz"))) == 1


@pytest.fixture
def bundle(hosted: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A function that returns the bundle after all wheels are built."""
    monkeypatch.setattr(wheel_sets, "PROJECT", tmp_path)
    wheels = {"wheels": {**WHEELS, "house": "house"}}
    hosted(LACKS_ALL, built("uwsgi"), built("flask"), {}, arguments=wheels).run(task_vars=HOST)

    def make() -> list[str]:
        action = hosted({"platform": PLATFORM}, arguments=wheels, plugin=app_wheels_action)
        return action.run(task_vars=HOST)["bundle"]

    return make


def test_a_bundle_has_the_wheels_their_records_and_the_packed_source(
    bundle: Callable[[], list[str]], tmp_path: Path
) -> None:
    found = bundle()
    built_files = {str(path.relative_to(tmp_path)) for path in (tmp_path / "house").rglob("*.*") if path.is_file()}
    assert len([name for name in built_files if name.endswith(".whl")]) == 2
    assert len([name for name in built_files if name.endswith(".json")]) == 2
    assert set(found) - built_files == {
        str(path.relative_to(tmp_path)) for path in (tmp_path / "cache/packed").glob("*.tar.gz")
    }
    assert built_files <= set(found)


def test_a_bundle_has_what_a_lock_file_was_exported_to(
    bundle: Callable[[], list[str]], entry: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that an offline controller does not need the lock file's tool."""
    monkeypatch.setattr(exporters, "CACHE", tmp_path / "cache")
    monkeypatch.setitem(
        exporters.EXPORTERS, "poetry.lock", (lambda extras, groups: ["echo", "flask"], "requirements.txt")
    )
    entry["requirements"] = "poetry.lock"
    Path(entry["source"]["path"], "poetry.lock").touch()
    assert [path for path in bundle() if path.startswith("cache/exported/")] == [
        str(path.relative_to(tmp_path)) for path in (tmp_path / "cache/exported").glob("*.txt")
    ]


BUILD = {"build": ["npm run build"], "build_packages": ["npm"], "static": {"/static": "dist"}}
LACKS_SOURCE = {"needs": {**NOTHING, "sets": ["uwsgi", "app"], "archive": True}}


@pytest.fixture
def building(hosted: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """As ``hosted``, for an app with a build that makes ``dist/app.js`` and a ``node_modules``."""
    monkeypatch.setattr(built_module, "BUILT", tmp_path / "cache/built")

    def make(*answers: Any, **changed: Any) -> Any:
        action = hosted(*answers, **{**BUILD, **changed})
        fetch = action._connection.fetch_file

        def fetch_built(remote: str, local: str) -> None:
            if action._execute_module.call_args.args[0] != "source_build":
                return fetch(remote, local)
            with tarfile.open(local, "w") as tar:
                for name in ("app.py", "dist/app.js", "node_modules/x/index.js"):
                    tar.addfile(tarfile.TarInfo(f"./{name}"), io.BytesIO())

        action._connection.fetch_file = fetch_built
        return action

    return make


def test_a_source_is_built_on_the_host_that_builds_wheels_and_packed(building: Callable[..., Any]) -> None:
    action = building(LACKS_SOURCE, built("uwsgi"), built("flask"), {"said": ["$ npm"]}, {"changed": True})
    action.run(task_vars=HOST)
    assert modules(action) == ["flask_app", "wheel_set", "wheel_set", "source_build", "flask_app"]
    handed = asked(action)[3][1]
    assert (handed["commands"], handed["packages"], handed["platform"]) == (["npm run build"], ["npm"], PLATFORM)
    assert handed["wheels"] == [wheel_of("uwsgi"), wheel_of("flask")]
    assert (handed["variables"]["FLASK_APP"], "KEY" in handed["variables"]) == ("app:app", False)
    names = action.packed[posixpath.basename(asked(action)[-1][1]["archive"])]
    assert {name for name in names if "app" in name} == {"src/app.py", "src/dist/app.js", "static/static/app.js"}
    assert not [name for name in names if "node_modules" in name]


def test_a_source_is_built_once_for_all_hosts_of_a_platform(building: Callable[..., Any]) -> None:
    building(LACKS_SOURCE, built("uwsgi"), built("flask"), {"said": []}, {"changed": True}).run(task_vars=HOST)
    other = building({"needs": {**NOTHING, "archive": True}}, {"changed": True})
    other.run(task_vars=HOST)
    assert modules(other) == ["flask_app", "flask_app"]
    changed = building({"needs": {**NOTHING, "archive": True}}, {"said": []}, {"changed": True}, build=["npm run more"])
    changed.run(task_vars=HOST)
    assert modules(changed) == ["flask_app", "source_build", "flask_app"]


def test_a_failed_build_is_reported_and_nothing_is_uploaded(building: Callable[..., Any]) -> None:
    action = building(LACKS_SOURCE, built("uwsgi"), built("flask"), {"failed": True, "msg": "npm: no such script"})
    with pytest.raises(AnsibleActionFail, match=r"build on .*: npm: no such script"):
        action.run(task_vars=HOST)


def test_a_static_folder_that_a_build_does_not_make_is_reported(building: Callable[..., Any]) -> None:
    action = building(LACKS_SOURCE, built("uwsgi"), built("flask"), {"said": []}, static={"/static": "dits"})
    with pytest.raises(AnsibleActionFail, match=r"blog: static./static: build has made no folder dits"):
        action.run(task_vars=HOST)


@pytest.mark.parametrize("changed", [{"wsgi": "app:other"}, {"env": {"NODE_ENV": "test"}}])
def test_each_input_of_a_build_is_part_of_its_key(building: Callable[..., Any], changed: dict[str, Any]) -> None:
    building(LACKS_SOURCE, built("uwsgi"), built("flask"), {"said": []}, {"changed": True}).run(task_vars=HOST)
    other = building({"needs": {**NOTHING, "archive": True}}, {"said": []}, {"changed": True}, **changed)
    other.run(task_vars=HOST)
    assert modules(other) == ["flask_app", "source_build", "flask_app"]


def test_an_unbuilt_source_is_not_sent_with_the_first_call(building: Callable[..., Any]) -> None:
    action = building({"changed": True}, plugin=app_rollout_action)
    action.run(task_vars=HOST)
    assert "archive_content" not in asked(action)[0][1]["apps"][0]


def test_the_project_itself_is_a_set_of_its_own_and_goes_to_the_builder_packed(
    hosted: Callable[..., Any], entry: dict[str, Any], tmp_path: Path
) -> None:
    entry["install"] = True
    Path(entry["source"]["path"], "pyproject.toml").write_text("[project]\nname = 'blog'\n")
    needs = {"needs": {**LACKS_ALL["needs"], "sets": ["uwsgi", "app", "project"]}}
    action = hosted(needs, built("uwsgi"), built("flask"), built("blog"), {"changed": True})
    action.run(task_vars=HOST)
    recipes = [arguments["recipe"] for name, arguments in asked(action) if name == "wheel_set"]
    assert [(one["requirements"], one["dependencies"]) for one in recipes[1:]] == [("flask\n", None), ("", None)]
    assert [names for name, names in action.packed.items() if "wheels" not in name] == [["project.tar.gz"]]


def test_a_project_with_dynamic_dependencies_is_one_set_with_them(
    hosted: Callable[..., Any], entry: dict[str, Any]
) -> None:
    Path(entry["source"]["path"], "requirements.txt").write_text("flask\n-e .[mail]\n")
    action = hosted(LACKS_ALL, built("uwsgi"), built("flask"), {"changed": True})
    action.run(task_vars=HOST)
    _, recipe = (arguments["recipe"] for name, arguments in asked(action) if name == "wheel_set")
    assert (recipe["requirements"], recipe["dependencies"]) == ("flask\n", "[mail]")


def test_a_bundle_has_a_source_that_came_from_elsewhere(
    bundle: Callable[[], list[str]], entry: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache.CACHE / "sources/archive/1a2b"
    shutil.copytree(entry["source"]["path"], folder)
    monkeypatch.setattr(
        sources, "fetched", lambda _: sources.Fetched(folder, {"archive": "blog.tar", "sha256": "1a2b"})
    )
    assert str(folder.relative_to(tmp_path)) in bundle()


def test_a_bundle_with_an_altered_wheel_is_refused(bundle: Callable[[], list[str]], tmp_path: Path) -> None:
    wheel, _ = (tmp_path / "house").glob("*/*/*.whl")
    wheel.write_text("altered")
    with pytest.raises(AnsibleActionFail, match=rf"^flask_apps\.blog: {wheel} was altered"):
        bundle()


def test_in_check_mode_nothing_is_built(hosted: Callable[..., Any]) -> None:
    action = hosted(LACKS_ALL)
    action._task.check_mode = True
    action.run(task_vars=HOST)
    assert modules(action) == ["flask_app"]


def keys(action: Any) -> dict[str, str]:
    return {name: one["key"] for name, one in sent(action)["wheels"].items()}


@pytest.mark.parametrize("text", ["\n", "# none\n"])
def test_an_app_that_requires_nothing_has_no_set_of_its_own(
    release: Callable[..., Any], entry: dict[str, Any], text: str
) -> None:
    Path(entry["source"]["path"], "requirements.txt").write_text(text)
    assert keys(release()).keys() == {"uwsgi"}


def test_sets_are_known_by_what_they_are_made_from(release: Callable[..., Any], entry: dict[str, Any]) -> None:
    before = keys(release())
    Path(entry["source"]["path"], "requirements.txt").write_text("flask<4\n")
    after = keys(release())
    assert (before["uwsgi"] == after["uwsgi"], before["app"] == after["app"]) == (True, False)


@pytest.mark.parametrize("plugin", [flask_app_action, app_rollout_action, app_wheels_action])
def test_a_password_of_the_index_goes_to_the_builder_alone(hosted: Callable[..., Any], plugin: Any) -> None:
    lacks, has = LACKS_APP, {}
    if plugin is app_rollout_action:
        lacks, has = {"apps": {"blog": LACKS_APP}}, {"apps": {"blog": {}}}
    action = hosted(lacks, built("flask"), has, plugin=plugin)
    action.run(task_vars=HOST)
    told = {name for name, arguments in asked(action) if "me:s3cret@" in json.dumps(arguments)}
    assert told == {"wheel_set"}


def test_a_wheelhouse_lies_below_the_project() -> None:
    assert wheel_sets.wheelhouse_folder({"house": ".cache/a-house"}) == wheel_sets.PROJECT / ".cache/a-house"


# output


def test_the_output_of_hooks_is_displayed(release: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(app_action, "Display", lambda: SimpleNamespace(display=shown.append))
    action = release({"phases": ["before_switch"]}, app_rollout_action)
    action._execute_module.return_value = {"apps": {"blog": {"said": ["$ flask db upgrade", "done"]}}}
    action.run(task_vars={**HOST, "inventory_hostname": "app1"})
    assert shown == ["blog on app1: $ flask db upgrade", "blog on app1: done"]


# locks of ended controller processes


@pytest.fixture
def gone() -> str:
    """A process of this machine that has ended."""
    with subprocess.Popen(["sleep", "600"]) as process:
        token = run_identity.process_token(process.pid)
        process.kill()
    return token


def held_by(process: str) -> dict[str, Any]:
    return {"failed": True, "msg": "in use", "holder": {"process": process}}


def test_the_lock_of_an_ended_controller_process_is_broken(release: Callable[..., Any], gone: str) -> None:
    action = release()
    action._execute_module.side_effect = [held_by(gone), {"changed": True}]
    assert action.run(task_vars=HOST)["changed"]
    assert broke(action) == [None, [gone]]


def test_a_lock_is_broken_with_the_source_that_was_asked_for(release: Callable[..., Any], gone: str) -> None:
    action = release()
    action._execute_module.side_effect = [{"needs": {**NOTHING, "archive": True}}, held_by(gone), {"changed": True}]
    assert action.run(task_vars=HOST)["changed"]
    assert broke(action) == [None, None, [gone]]
    assert action._execute_module.call_args.args[1]["archive"]


def test_the_locks_of_several_ended_controller_processes_are_broken(release: Callable[..., Any], gone: str) -> None:
    """Of two apps, deployed by two runs that were killed."""
    other = gone.replace(gone.split()[-1], "1")
    action = release()
    action._execute_module.side_effect = [held_by(gone), held_by(other), {"changed": True}]
    assert action.run(task_vars=HOST)["changed"]
    assert [one and [*one] for one in broke(action)][-1] == [gone, other]


def test_a_lock_that_cannot_be_broken_is_reported(release: Callable[..., Any], gone: str) -> None:
    action = release()
    action._execute_module.side_effect = [held_by(gone), held_by(gone)]
    assert action.run(task_vars=HOST)["failed"]


@pytest.mark.parametrize("process", [HERE, "another-boot pid:[1] 1 1"], ids=["this one", "elsewhere"])
def test_the_lock_of_a_process_that_may_run_is_not_broken(release: Callable[..., Any], process: str) -> None:
    action = release()
    action._execute_module.return_value = held_by(process)
    assert action.run(task_vars=HOST)["failed"]
    assert broke(action) == [None]


def test_a_failure_without_a_lock_holder_is_not_tried_again(release: Callable[..., Any]) -> None:
    action = release()
    action._execute_module.return_value = {"failed": True, "msg": "ImportError"}
    assert action.run(task_vars=HOST)["failed"]
    assert broke(action) == [None]


def test_a_missing_process_of_this_machine_has_ended(gone: str) -> None:
    assert run_identity.has_ended(gone)


@pytest.mark.parametrize(("seen", "expected"), [("?", False), ("same", False), ("another", True)])
def test_a_process_of_another_user_has_not_ended(monkeypatch: pytest.MonkeyPatch, seen: str, expected: bool) -> None:
    """With hidepid, /proc shows it to nobody else (proc(5)); kill(2) fails with EPERM if there is one."""

    def kill(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(run_identity, "_start_time", lambda pid: HERE.split()[-1] if seen == "same" else seen)
    assert run_identity.has_ended(HERE) is expected


def test_a_pid_that_no_process_can_have_has_ended() -> None:
    here, _, _ = HERE.rpartition(" ")
    assert run_identity.has_ended(f"{here.rpartition(' ')[0]} {10**30} 1")


def test_a_process_whose_pid_was_reused_has_ended() -> None:
    here, _, began = HERE.rpartition(" ")
    assert run_identity.has_ended(f"{here} {int(began) - 1}")


@pytest.mark.parametrize(
    "process",
    [HERE, run_identity.process_token(1), "nobody", "me 4711", HERE.replace("pid:[", "pid:[9"), f"another-{HERE}"],
    ids=["this one", "another user's", "nobody", "an older token", "another container", "another machine or boot"],
)
def test_a_process_of_another_machine_or_boot_has_not_ended(process: str) -> None:
    assert not run_identity.has_ended(process)


def test_without_proc_no_process_has_ended(gone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_identity, "PROC", tmp_path)
    assert not run_identity.has_ended(gone)
    assert not run_identity.has_ended(run_identity.process_token(os.getpid()))
