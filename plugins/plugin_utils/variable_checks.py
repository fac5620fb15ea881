"""Checks of each variable by itself, without any other: its name, its type and the values that it takes.

argument_specs know types, ``meta/constraints.yml`` (JSON Schema) what a type cannot say; of an app's options one file
has both. A problem names the variable and its value, what is wrong, and what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import jsonschema
import yaml

from .entries import role_options, schema_of, validate
from .rendering import PROJECT
from .sources import redact

# Options and variables whose values may have line breaks, and are shown to nobody.
VERBATIM = ("env", "secret_env", "files", "secret_files", "basic_auth", "nginx_certificates", "tls_ca_passphrase")


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


def all_roles() -> list[str]:
    """The names of the project's roles."""
    return sorted(path.name for path in (PROJECT / "roles").iterdir() if path.is_dir())


@cache
def constraints(role: str) -> dict[str, Any]:
    """The JSON Schema of a role's variables, ``{}`` where it declares none."""
    path = PROJECT / "roles" / role / "meta" / "constraints.yml"
    schema: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else {}
    properties = schema.setdefault("properties", {})
    for name, more in schema_of(role_options(role))["properties"].items():
        properties[name] = properties.get(name, {}) | more
    return schema


def check_names(names: set[str], wired: set[str]) -> Iterator[Problem]:
    """Whether each variable that somebody has set is a role's.

    :param wired: the variables that the playbook sets.
    """
    known = {name for role in all_roles() for name in role_options(role)}
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


def check_options(path: str, options: dict[str, Any], values: Any) -> Iterator[Problem]:
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
        else:
            for where, options, item in _inner(here, spec, value):
                yield from check_options(where, options, item)


def _inner(path: str, spec: dict[str, Any], value: Any) -> list[tuple[str, dict[str, Any], Any]]:
    """The values within a value, each with its path and its options."""
    if "options" in spec and spec["type"] == "list":
        return [(f"{path}[{index}]", spec["options"], item) for index, item in enumerate(value)]
    if "options" in spec:
        return [(path, spec["options"], value)]
    if "values" in spec and isinstance(value, dict):  # Ansible takes a text like a=b for a mapping
        return [(f"{path}.{name}", spec["values"], item) for name, item in value.items()]
    return []


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


Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]  # its stubs have no types for it
    jsonschema.Draft202012Validator, {"pattern": _check_pattern}
)


def check_constraints(schema: dict[str, Any], values: dict[str, Any]) -> Iterator[Problem]:
    """Ranges, patterns, and what else a JSON Schema says of values."""
    for error in Validator(schema).iter_errors(values):
        if error.validator == "type" and not {*VERBATIM} & {*error.absolute_path}:
            continue  # the argument spec has said it
        key = [error.instance] if "propertyNames" in error.absolute_schema_path else []
        path = ".".join(map(str, [*error.absolute_path, *key]))
        value = HIDDEN if {*VERBATIM} & {*error.absolute_path} and not key else _visible(path, error.instance)
        yield Problem(path, value, error.schema.get("description", error.message))


def _visible(path: str, value: Any) -> Any:
    """A value for a message; of an app, no more than a single one, for there may be a secret in it somewhere."""
    is_some = path.partition(".")[0] == "flask_apps" and isinstance(value, dict | list)
    return HIDDEN if is_some or _is_secret(path) else value


def _is_secret(path: str) -> bool:
    """Whether a value is part of a variable that is not to be logged."""
    variable = re.split(r"[.\[]", path)[0]
    return any(role_options(role).get(variable, {}).get("no_log", False) for role in all_roles())


def check_line_breaks(path: str, value: Any) -> Iterator[Problem]:
    """No text has a line break, but for values that a configuration file has as they are."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from check_line_breaks(path, str(key))
            if key not in VERBATIM:
                yield from check_line_breaks(_join(path, key), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from check_line_breaks(f"{path}[{index}]", inner)
    elif isinstance(value, str) and any(character in value for character in "\r\n\0"):
        shown = HIDDEN if path.startswith("flask_apps") or _is_secret(path) else value  # whatever option it was to be
        yield Problem(path, shown, "has a line break, which would end the line in a configuration file; remove it")


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)
