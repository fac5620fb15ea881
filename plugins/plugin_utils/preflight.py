"""Every variable of every role for every host, checked on the controller before anything changes anywhere.

argument_specs know types, ``meta/constraints.yml`` (JSON Schema) what a type cannot say, and what spans roles
is said here. A problem names the variable and its value, what is wrong, and what to do.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jsonschema
import yaml
from module_utils.flaskfleet.shared import below, overlaps, place

from . import fleet, packing, requirements, sources
from .entries import complete, role_specs, validate
from .release_contents import contents
from .rendering import PROJECT
from .sources import Fetched, SourceError, redact

VERBATIM = ("env", "secret_env", "files", "secret_files")  # options of an app whose values may have line breaks
WHEN = ("before_switch", "after_switch")
RESERVED_PREFIX = "FLASKFLEET_"
SHOWN = 10  # of the paths that are left out
Fetch = Callable[[dict[str, Any]], Fetched]


class Problem(NamedTuple):
    """What is wrong with a variable.

    ``value`` is left out of the message where it is ``HIDDEN``, an url's credentials always are.
    """

    variable: str
    value: Any
    words: str

    def __str__(self) -> str:
        value = "" if self.value is HIDDEN else f" {self.value!r}"
        return redact(f"{self.variable}:{value} {self.words}".replace("\n", " "))


HIDDEN = object()


class Import(NamedTuple):
    """A role that a play imports, and the variables that the play sets for it."""

    hosts: str
    role: str
    wired: frozenset[str]


def role_imports(playbook: Path) -> list[Import]:
    """The roles that a playbook imports, by the pattern of its hosts."""
    return [
        Import(play["hosts"], task["ansible.builtin.import_role"]["name"], _wired(playbook, play, task))
        for play in yaml.safe_load(playbook.read_text())
        for task in play.get("tasks", [])
        if "ansible.builtin.import_role" in task
    ]


def _wired(playbook: Path, play: dict[str, Any], task: dict[str, Any]) -> frozenset[str]:
    files = [yaml.safe_load((playbook.parent / name).read_text()) for name in play.get("vars_files", [])]
    return frozenset(name for variables in [*files, task.get("vars", {})] for name in variables)


@cache
def constraints(role: str) -> dict[str, Any]:
    """The JSON Schema of a role's variables, ``{}`` where it declares none."""
    path = PROJECT / "roles" / role / "meta" / "constraints.yml"
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def all_roles() -> list[str]:
    """The names of the project's roles."""
    return sorted(path.name for path in (PROJECT / "roles").iterdir() if path.is_dir())


def once(fetch: Fetch) -> Fetch:
    """The same function, which gets each source once, or fails to, however many hosts have it."""
    results: dict[str, Fetched | SourceError] = {}

    def fetch_once(source: dict[str, Any]) -> Fetched:
        key = json.dumps(source, sort_keys=True)
        if key not in results:
            try:
                results[key] = fetch(source)
            except SourceError as error:
                results[key] = error
        result = results[key]
        if isinstance(result, SourceError):
            raise result
        return result

    return fetch_once


def check_host(
    imports: list[Import], names: set[str], get: Callable[[str], Any], fetch: Fetch = sources.fetch
) -> list[Problem]:
    """What is wrong with the variables of one host.

    :param imports: the roles that the host gets.
    :param names: the variables that somebody has set for it.
    :param get: a variable's value, templated; raises where it can't be.
    :param fetch: gets a source to the controller, once the variables are sound by themselves.
    """
    problems = list(_unknown_names(imports, names))
    values: dict[str, Any] = {}
    for item in imports:
        options = role_specs(item.role).get("main", {})
        given = {}
        for name in sorted(names & options.keys() - item.wired):
            try:
                given[name] = get(name)
            except Exception as error:  # whatever a lookup or a filter in the inventory raises
                problems.append(Problem(name, HIDDEN, f"can't be evaluated: {error}"))
        wanted = {name: spec for name, spec in options.items() if name not in item.wired}
        problems += _check_options("", wanted, given)
        problems += _check_constraints(constraints(item.role), given)
        values |= {name: given.get(name, spec.get("default")) for name, spec in wanted.items()}
    for name, app in (values.get("flask_apps") or {}).items() if isinstance(values.get("flask_apps"), dict) else ():
        problems += _check_options(f"flask_apps.{name}", role_specs("flask_app")["app"], app)
        programs = app.get("programs") if isinstance(app, dict) else None
        for program, given in programs.items() if isinstance(programs, dict) else ():
            problems += _check_options(
                f"flask_apps.{name}.programs.{program}", role_specs("flask_app")["program"], given
            )
    problems += _line_breaks("", values)
    return problems or list(_across_roles(values, fetch))


def claims(imports: list[Import], names: set[str], get: Callable[[str], Any]) -> dict[str, list[Any]]:
    """What a host must have free, or ours: the ports of its daemons, the users of its apps, the files that roles write.

    A variable named ``<role>_…_port`` is a port of the daemon that is named like the role, unless ``<role>_enabled`` is
    false.
    """
    ports, files, take_over = [], [], []
    for item in imports:
        options = role_specs(item.role).get("main", {})
        values = {name: get(name) if name in names else spec.get("default") for name, spec in options.items()}
        take_over += values.get("base_take_over", [])
        if values.get(f"{item.role}_enabled", True) and values.get("keepalived_virtual_ip", "x"):
            files += written_files(item.role)
            ports += [
                {"variable": name, "port": int(value), "program": item.role}
                for name, value in values.items()
                if name.endswith("_port") and name not in item.wired
            ]
    has_apps = any(item.role == "flask_app" for item in imports) and "flask_apps" in names
    apps = get("flask_apps") if has_apps else {}
    for name, app in apps.items():
        if app.get("http"):
            port = int(app["http"].rpartition(":")[2])
            ours = [f"/etc/supervisor/conf.d/{name}-http.conf", f"--http {app['http']}\n"]
            ports.append({"variable": f"flask_apps.{name}.http", "port": port, "program": "uwsgi", "ours": ours})
    users = [{"variable": f"flask_apps.{name}", "name": name, "home": f"/srv/{name}"} for name in apps]
    return {"ports": ports, "users": users, "files": files, "take_over": take_over}


def written_files(role: str) -> list[str]:
    """The paths on a host that a role writes by config_tree, but those that are named after an app."""
    folder = PROJECT / "roles" / role / "templates"
    paths = sorted(f"/{template.relative_to(folder).with_suffix('')}" for template in folder.rglob("*.j2"))
    return [path for path in paths if "{" not in path]


def remarks(imports: list[Import], names: set[str], get: Callable[[str], Any]) -> list[str]:
    """What people should know of a host's apps although nothing is wrong. The sources were fetched."""
    has_apps = any(item.role == "flask_app" for item in imports) and "flask_apps" in names
    said = []
    for name, app in complete(get("flask_apps") if has_apps else {}).items():
        left_out = contents(sources.fetched(app["source"]).folder, app["source"], app["static"].values()).left_out
        if left_out:
            more = f" and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
            said.append(f"{name}: not part of the release are {', '.join(left_out[:SHOWN])}{more}")
    return said


def check_fleet(groups: dict[str, list[str]], hostvars: Any) -> list[Problem]:
    """What is wrong between hosts: balancers must know the app servers' addresses and the names of their apps."""
    balancers, servers = groups.get("load_balancers", []), groups.get("app_servers", [])
    if not balancers:
        return []
    if both := sorted({*balancers} & {*servers}):
        words = "can't be an app server, too: its nginx is the one or the other; leave it in one of the groups"
        return [Problem("load_balancers", name, words) for name in both]
    problems = []
    taken: dict[str, str] = {}
    try:
        for name in [*balancers, *servers]:
            address = fleet.address(hostvars[name], name)
            problems += _address_problems(address, name, taken)
            taken[address] = name
        for app in fleet.balanced(servers, hostvars):
            if not app["server_names"]:
                words = "have no name in common on all app servers, under which clients could ask a balancer; add one"
                problems.append(Problem(f"flask_apps.{app['name']}.server_names", HIDDEN, words))
    except ValueError as error:
        variable, _, words = str(error).partition(": ")
        return [Problem(variable, HIDDEN, words)]
    if not servers:
        problems.append(Problem("app_servers", HIDDEN, "has no host that load_balancers could send requests to"))
    problems += [
        Problem("app_servers", name, "is no name for a host behind a balancer; use letters, digits, -, _ and dots")
        for name in servers
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII)
    ]
    takes = {name: int(fleet.nginx(hostvars[name], "client_max_body_mb")) for name in [*balancers, *servers]}
    if min(takes[name] for name in balancers) < max((takes[name] for name in servers), default=0):
        words = "is less on a balancer than on an app server, whose clients it would refuse; say it for group_vars/all"
        problems.append(Problem("nginx_client_max_body_mb", takes, words))
    virtual = {name: str(hostvars[name].get("keepalived_virtual_ip") or "") for name in balancers}
    for ip in sorted(set(virtual.values())):
        if ip.partition("/")[0] in taken:
            words = f"is {taken[ip.partition('/')[0]]}'s own address; choose a free one"
            problems.append(Problem("keepalived_virtual_ip", ip, words))
    if len(set(virtual.values())) > 1:
        words = "differs between balancers; say it for the group load_balancers"
        problems.append(Problem("keepalived_virtual_ip", virtual, words))
    return problems


def _address_problems(address: str, name: str, taken: dict[str, str]) -> Iterator[Problem]:
    ip = ipaddress.ip_address(address)
    if ip.is_loopback:
        words = f"is no address under which others reach {name}; give base_address in its variables"
    elif ip.version != 4:
        words = f"of {name} is no IPv4 address, and there is nothing else between hosts; give one as base_address"
    elif address in taken:
        words = f"is the address of {taken[address]}, too; give {name} its own"
    else:
        return
    yield Problem("base_address", address, words)


def _unknown_names(imports: list[Import], names: set[str]) -> Iterator[Problem]:
    known = {name for role in all_roles() for name in role_specs(role).get("main", {})}
    wired = {name for item in imports for name in item.wired}
    prefixes = tuple(f"{role}_" for role in all_roles())
    for name in sorted(names):
        if name in wired:
            yield Problem(name, HIDDEN, "is set by the playbook from other variables; remove it from the inventory")
        elif name not in known and not name.startswith("ansible_"):
            near = difflib.get_close_matches(name, sorted(known), 1, 0.6 if name.startswith(prefixes) else 0.9)
            if near or name.startswith(prefixes):
                yield Problem(name, HIDDEN, f"no role has this variable; {_did_you_mean(near)}")


def _did_you_mean(near: list[str]) -> str:
    return f"did you mean {near[0]}?" if near else "remove it, or see the role's README"


def _check_options(path: str, options: dict[str, Any], values: Any) -> Iterator[Problem]:
    """Types, required options and unknown ones, for values in the shape of an argument spec."""
    if not isinstance(values, dict):
        yield Problem(path, HIDDEN, "must be a mapping of options")
        return
    for name in sorted(values.keys() - options.keys(), key=str):
        near = difflib.get_close_matches(str(name), sorted(options), 1)
        yield Problem(_join(path, name), HIDDEN, f"there is no such option; {_did_you_mean(near)}")
    for name, spec in options.items():
        here = _join(path, name)
        if name not in values:
            if spec.get("required"):
                yield Problem(here, HIDDEN, f"is missing. {_text(spec['description'])}")
            continue
        value = values[name]
        leaf = {key: spec[key] for key in ("type", "elements", "choices") if key in spec}
        _, errors = validate({name: leaf}, {name: value})
        # Ansible takes text for a number, JSON Schema then does not look at its range; and what holds others for text.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        lacks_number = spec["type"] in ("int", "float") and not is_number
        lacks_text = spec["type"] in ("str", "path") and isinstance(value, dict | list)
        if errors or value is None or lacks_number or lacks_text:
            is_secret = spec.get("no_log") or (path and spec["type"] in ("dict", "list"))
            shown = HIDDEN if is_secret else _visible(here, value)
            yield Problem(here, shown, f"must be {_type(spec)}. {_text(spec['description'])}")
        elif "options" in spec:
            inner = [(here, value)] if spec["type"] == "dict" else [(f"{here}[{i}]", v) for i, v in enumerate(value)]
            for where, item in inner:
                yield from _check_options(where, spec["options"], item)


def _type(spec: dict[str, Any]) -> str:
    if "choices" in spec:
        return f"one of {', '.join(map(str, spec['choices']))}"
    names = {
        "int": "an integer", "float": "a number", "bool": "true or false", "dict": "a mapping", "path": "a path",
        "str": "a string",
    }  # fmt: skip
    return f"a list ({spec.get('elements', 'any')})" if spec["type"] == "list" else names[spec["type"]]


def _text(description: str | list[str]) -> str:
    text = " ".join([description] if isinstance(description, str) else description)
    return re.sub(r"[A-Z]\(([^()]*(?:\(\))?[^()]*)\)", r"\1", text)  # C(x) of ansible-doc is x


def _check_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """As ECMA-262 has it, and so JSON Schema: ``$`` is the end, and not before a last line break, as in Python."""
    pattern = re.sub(r"(?<!\\)\$", r"\\Z", pattern)
    if validator.is_type(instance, "string") and not re.search(pattern, instance):
        yield jsonschema.ValidationError(f"does not match {pattern}")


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _check_pattern})


def _check_constraints(schema: dict[str, Any], values: dict[str, Any]) -> Iterator[Problem]:
    for error in Validator(schema).iter_errors(values):
        if error.validator == "type" and not {*VERBATIM} & {*error.absolute_path}:
            continue  # the argument spec has said it
        key = [error.instance] if "propertyNames" in error.absolute_schema_path else []
        path = ".".join(map(str, [*error.absolute_path, *key]))
        value = HIDDEN if {*VERBATIM} & {*error.absolute_path} and not key else _visible(path, error.instance)
        yield Problem(path, value, error.schema.get("description", error.message))


def _visible(path: str, value: Any) -> Any:
    """A value for a message; of an app, no more than a single one, for there may be a secret in it somewhere."""
    return HIDDEN if path.partition(".")[0] == "flask_apps" and isinstance(value, dict | list) else value


def _line_breaks(path: str, value: Any) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _line_breaks(path, str(key))
            if key not in VERBATIM:
                yield from _line_breaks(_join(path, key), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _line_breaks(f"{path}[{index}]", inner)
    elif isinstance(value, str) and any(character in value for character in "\r\n\0"):
        shown = HIDDEN if path.startswith("flask_apps") else value  # whatever option it was to be
        yield Problem(path, shown, "has a line break, which would end the line in a configuration file; remove it")


def _across_roles(values: dict[str, Any], fetch: Fetch) -> Iterator[Problem]:
    """What spans variables, roles and the controller's disk. The values are sound by themselves."""
    apps = complete(values.get("flask_apps") or {})
    nginx_enabled = values.get("nginx_enabled", True)
    ports = {name: int(value) for name, value in values.items() if name.endswith("_port") and nginx_enabled}
    ports |= {
        f"flask_apps.{name}.http": int(app["http"].rpartition(":")[2]) for name, app in apps.items() if app["http"]
    }
    for name, port in ports.items():
        for other in sorted(other for other in ports if other < name and ports[other] == port):
            yield Problem(name, port, f"is also {other}; choose another port for one of them")
    if "uwsgi_listen" in values and int(values["uwsgi_listen"]) > int(values["base_somaxconn"]):
        yield Problem(
            "uwsgi_listen",
            values["uwsgi_listen"],
            f"is more than base_somaxconn ({values['base_somaxconn']}); raise that",
        )
    for path in values.get("base_ca_certificates") or []:
        if not Path(path).is_file():
            yield Problem("base_ca_certificates", path, "there is no such file on the controller")

    stop = values.get("supervisor_stop_timeout_seconds")
    served = Counter(name.lower() for app in apps.values() for name in app["server_names"])
    for name, app in apps.items():
        where = f"flask_apps.{name}"
        if not app["http"] and not (app["server_names"] and nginx_enabled):
            way = "name at least one host name, or give http" if nginx_enabled else "nginx_enabled is false: give http"
            yield Problem(f"{where}.server_names", app["server_names"], f"nobody could reach the app; {way}")
        for server_name in app["server_names"]:
            if served[server_name.lower()] > 1:
                others = sorted(o for o in apps if server_name.lower() in map(str.lower, apps[o]["server_names"]))
                owners = f"apps {', '.join(others)}" if len(others) > 1 else f"{name} more than once"
                yield Problem(
                    f"{where}.server_names", server_name, f"is claimed by {owners}; give each name to one app"
                )
        if stop and app["harakiri_seconds"] + 30 > int(stop):
            yield Problem(
                f"{where}.harakiri_seconds",
                app["harakiri_seconds"],
                f"+ 30 seconds is more than supervisor_stop_timeout_seconds ({stop}); raise that",
            )
        for program, options in app["programs"].items():
            if stop and options["stop_seconds"] + 15 > int(stop):
                yield Problem(
                    f"{where}.programs.{program}.stop_seconds",
                    options["stop_seconds"],
                    f"+ 15 seconds is more than supervisor_stop_timeout_seconds ({stop}); raise that",
                )
        commands = [(f"programs.{program}.command", options["command"]) for program, options in app["programs"].items()]
        commands += [(f"hooks.{when}", command) for when in WHEN for command in app["hooks"][when]]
        commands += [("build", command) for command in app["build"]]
        for option, command in commands:
            try:
                shlex.split(command)
            except ValueError as error:
                yield Problem(f"{where}.{option}", command, f"can't be read: {error}; close what you quote")
        for variable in sorted(app["env"].keys() & app["secret_env"].keys()):
            yield Problem(f"{where}.secret_env.{variable}", HIDDEN, "stands in env, too; keep one of them")
        for variable in sorted(app["env"].keys() | app["secret_env"].keys()):
            if variable.startswith(RESERVED_PREFIX):
                yield Problem(f"{where}.env.{variable}", HIDDEN, f"{RESERVED_PREFIX}… is set by the release; rename it")
        yield from _check_paths(where, app)
        yield from _check_source(where, app, fetch)
        yield from _check_wheels(where, app)


def _check_paths(where: str, app: dict[str, Any]) -> Iterator[Problem]:
    """Shared paths and files of the inventory lie apart from each other, also where nginx serves them."""
    paths, shared = [*app["files"], *app["secret_files"]], app["shared_paths"]
    places = {path: place(path, app["static"]) for path in shared}
    for path in sorted({*paths, *shared}):
        if (paths + shared).count(path) > 1:
            words = "stands more than once in files, secret_files and shared_paths; keep one of them"
        elif path in shared and below(path, shared):
            words = f"lies below {below(path, shared)}, which is shared as a whole; leave it out"
        elif above := below(path, paths):
            words = f"lies below {above}, which is a file of files or secret_files; rename one of them"
        elif path in shared and (
            # The app writes there: root makes no folder in it.
            inside := [one for one in shared if one != path and PurePosixPath(places[path]).is_relative_to(places[one])]
        ):
            words = f"is served below {inside[0]}, which is shared as a whole; give its folder of static another URL"
        else:
            continue
        yield Problem(f"{where}.{'shared_paths' if path in shared else 'files'}", path, words)


def _check_source(where: str, app: dict[str, Any], fetch: Fetch) -> Iterator[Problem]:
    (kind,) = (kind for kind in sources.KINDS if app["source"][kind] is not None)
    try:
        found = fetch(app["source"])
        files = contents(found.folder, app["source"], app["static"].values()).files
        requirements.required(found, app)
        served = packing.static_files(found.folder, files, app["static"])
    except (SourceError, OSError, UnicodeDecodeError) as error:
        yield Problem(f"{where}.source.{kind}", HIDDEN, str(error))
        return
    if app["build"] and not found.folder:
        yield Problem(f"{where}.build", app["build"], "a package is built already; leave it out")
    for prefix, folder in app["static"].items() if found.folder and not app["build"] else ():  # a build may make it
        is_empty = not any(Path(name).is_relative_to(f"static{prefix}") for name in served)
        if is_empty and not overlaps(folder, app["shared_paths"]):
            origin = sources.describe(found.record)
            yield Problem(f"{where}.static.{prefix}", folder, f"there is no file in such a folder below {origin}")


def _check_wheels(where: str, app: dict[str, Any]) -> Iterator[Problem]:
    try:
        packing.further_wheels(app)
    except (SourceError, OSError) as error:
        yield Problem(f"{where}.wheels", HIDDEN, str(error))


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)
