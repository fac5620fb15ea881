"""The controller's half of app_release: pack the source, name the release, render its files. See the module."""

from __future__ import annotations

import base64
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).resolve().parents[1]))
from module_utils.flaskfleet.builds import PROJECT as PROJECT_ARCHIVE
from module_utils.flaskfleet.shared import linked, overlaps
from module_utils.flaskfleet.wheels import merged
from plugin_utils import built, exporters, packing, requirements, sources, wheelhouse
from plugin_utils.entries import Entry
from plugin_utils.rendering import PROJECT, render
from plugin_utils.run_identity import breaking_stale_lock, owner

PASSED_ON = (
    "force", "purge", "alone", "singletons", "keep_releases", "keep_warm", "canary", "access_log", "hooks_done",
)  # fmt: skip
KEPT = 3  # releases that were shipped from host to host
SMALL = 500_000  # bytes of an archive that goes along with the question whether it is needed


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member that whoever builds may read, whatever the controller's umask was."""
    member.mode = 0o644
    return member


def _not_built(builder: str, host: str, platform: str) -> str:
    return (
        f"python_builder is {builder}, and it has not built what {host} ({platform}) lacks; is it part of "
        "this run, of the same platform, and does it have the app?"
    )


class ActionModule(ActionBase):
    """Ask the host what it has; hand it the packed source only where it lacks the release."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        entry: Entry = json.loads(json.dumps(self._task.args["app"]))
        try:
            arguments = self._arguments(entry, task_vars)
            packs = arguments["step"] == "wheels" or (arguments["step"] == "warm" and "record" in arguments)
            archive = self._pack(entry) if packs else None
            if archive and arguments["step"] == "warm" and not entry["build"] and archive.stat().st_size <= SMALL:
                # One call where it would be three: to ask, to copy, to release.
                arguments["archive_content"] = base64.b64encode(archive.read_bytes()).decode()
            result = self._execute(arguments, task_vars)
            if arguments["step"] == "export" and not result.get("failed"):
                result["archive"] = self._fetch(arguments)
            for _ in range(2):  # once the wheels are built, it is known which ones the host lacks
                if "needs" in result and not self._task.check_mode:
                    arguments |= self._bring(result["needs"], entry, arguments, task_vars)
                    result = self._execute(arguments, task_vars)
            if "needs" in result and not self._task.check_mode:
                raise AnsibleActionFail(f"flask_apps.{entry['name']}: the host still lacks {result['needs']}")
            if archive and "platform" in result and not self._task.check_mode:
                made = self._built(entry, result["platform"], task_vars)
                result["bundle"] = [str(path) for path in self._bundle(entry, archive, result["platform"], made)]
        except (sources.SourceError, wheelhouse.WheelFailed, wheelhouse.BuildFailed, OSError) as error:
            raise AnsibleActionFail(f"flask_apps.{entry['name']}: {error}") from error
        for line in result.get("said", []):
            Display().display(f"{entry['name']} on {task_vars['inventory_hostname']}: {line}")
        hooks = entry.get("hooks", {}) if result.get("switching") == "deploy" else {}
        hooked = [name for name in ("before_switch", "after_switch") if hooks.get(name)]
        return {"switching": "", **result, "app": entry["name"], "hooked": hooked}

    def _execute(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the module; break the lock of a run of this controller that has ended."""
        return breaking_stale_lock(
            lambda **further: self._execute_module("app_release", {**arguments, **further}, task_vars=task_vars)
        )

    def _pack(self, entry: Entry, made: Path | None = None) -> Path:
        """Pack the source, or what its build has made of it, unless it was already."""
        folder = made or sources.fetched(entry["source"]).folder
        # What is built is often what git ignores.
        options = {**entry["source"], "gitignore": entry["source"]["gitignore"] and not made}
        files = packing.contents(folder, options, entry["static"].values()).files
        key = packing.digest([packing.source_hash(folder, files), entry["static"]])
        return packing.packed(folder, files, entry["static"], key)

    def _built(self, entry: Entry, platform: str, task_vars: dict[str, Any]) -> Path | None:
        """The source as the app's build leaves it on a platform: this host builds it unless another one does."""
        if not entry["build"]:
            return None
        source, sets = self._pack(entry), self._sets(entry)
        variables = {"FLASK_APP": entry["wsgi"], **entry["env"]}
        made_of = [source.name, entry["build"], variables, entry["build_packages"], [one.key for one in sets.values()]]
        key = packing.digest(made_of)
        host, builder = task_vars["inventory_hostname"], self._task.args["wheels"]["builder"]
        if builder and host != builder and not built.place(key, platform).is_dir():
            raise AnsibleActionFail(_not_built(builder, host, platform))

        def build(archive: Path) -> None:
            Display().display(f"{host}: building {entry['name']} for all of {platform}, once")
            there = self._connection._shell.join_path(self._tmp(), "built.tar")
            for wanted in sets.values():
                self._build(wanted, platform, entry, task_vars)
            wheels = merged(wheelhouse.known(wanted, self._house())[platform] for wanted in sets.values())
            with tempfile.TemporaryDirectory() as folder:
                packed = Path(folder, "wheels.tar")
                wheelhouse.pack(platform, wheels, [wheel["sha256"] for wheel in wheels], packed, self._house())
                arguments = {
                    "commands": entry["build"],
                    "source": self._send(source),
                    "python": entry["python"],
                    "platform": platform,
                    "wheels": wheels,
                    "wheels_archive": self._send(packed),
                    "variables": variables,
                    "packages": entry["build_packages"],
                    "keep_toolchain": self._task.args["wheels"]["build"]["keep_toolchain"],
                    "archive": there,
                }
                result = self._execute_module("source_build", arguments, task_vars=task_vars)
            if result.get("failed"):
                raise wheelhouse.BuildFailed(f"build on {host}: {result.get('msg')}")
            for line in result["said"]:
                Display().display(f"{entry['name']} on {host}: {line}")
            self._connection.fetch_file(there, str(archive))

        made = built.obtain(key, platform, build)
        for prefix, folder in entry["static"].items():
            if not (made / folder).is_dir() and not overlaps(folder, entry["shared_paths"]):
                raise sources.SourceError(
                    f"static.{prefix}: build has made no folder {folder}; correct one of them (what it made: {made})"
                )
        return made

    def _bring(
        self, needs: dict[str, Any], entry: Entry, arguments: dict[str, Any], task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        """What the host lacks, as further arguments."""
        platform, wheels = needs["platform"], arguments["wheels"]
        for name in needs["sets"]:
            wanted = self._sets(entry)[name]
            self._build(wanted, platform, entry, task_vars)
            wheels[name]["known"] = wheelhouse.known(wanted, self._house())
        brought: dict[str, Any] = {"wheels": wheels}
        with tempfile.TemporaryDirectory() as folder:
            if needs["wheels"]:
                packed = Path(folder, "wheels.tar")
                candidates = [wheel for one in wheels.values() for wheel in one["known"].get(platform, [])]
                wheelhouse.pack(platform, candidates, needs["wheels"], packed, self._house())
                brought["wheels_archive"] = self._send(packed)
            if needs["archive"]:
                brought["archive"] = self._send(self._pack(entry, self._built(entry, platform, task_vars)))
        return brought

    def _build(self, wanted: wheelhouse.Wanted, platform: str, entry: Entry, task_vars: dict[str, Any]) -> None:
        """See that the wheelhouse has a set of wheels: this host builds it unless another one of its kind does."""
        host, builder = task_vars["inventory_hostname"], self._task.args["wheels"]["builder"]

        if builder and host != builder:
            if platform in wheelhouse.known(wanted, self._house()):
                return
            raise AnsibleActionFail(_not_built(builder, host, platform))

        def build(archive: Path) -> dict[str, Any]:
            Display().display(f"{host}: building wheels for all of {platform}, once")
            there = self._connection._shell.join_path(self._tmp(), "built.tar")
            arguments = {"python": entry["python"], "recipe": wanted.recipe, "index_url": wanted.index_url}
            arguments["archive"] = there
            further = {path.name: path for path in wanted.further}
            if wanted.project:
                further[PROJECT_ARCHIVE] = wanted.project
            if further:
                with tempfile.NamedTemporaryFile(suffix=".tar") as file:
                    with tarfile.open(fileobj=file, mode="w") as tar:
                        for name, path in further.items():
                            tar.add(path, name, filter=_readable)
                    file.flush()
                    arguments["further"] = self._send(Path(file.name))
            result = self._execute_module("wheel_set", arguments, task_vars=task_vars)
            if result.get("failed"):
                kind = wheelhouse.BuildFailed if result.get("build_failed") else AnsibleActionFail
                raise kind(f"no wheels for {platform} on {host}: {result.get('msg')}")
            self._connection.fetch_file(there, str(archive))
            return result

        for line in wheelhouse.obtain(wanted, platform, host, build, self._house()):
            Display().display(f"{host}: {line}")

    def _sets(self, entry: Entry) -> dict[str, wheelhouse.Wanted]:
        """The sets of wheels that the app's environment is made from."""
        args = json.loads(json.dumps(self._task.args["wheels"]))
        required = requirements.required(sources.fetched(entry["source"]), entry)
        sets = {"uwsgi": wheelhouse.Wanted(**args["uwsgi"], **args["build"])}
        # The project changes with each release, and what it needs does not; they are one set if only a build tells.
        project = {} if required.project is None else {"project": self._pack(entry)}
        if not required.resolved:
            project["dependencies"] = required.project
        elif project:
            sets["project"] = wheelhouse.Wanted(
                requirements="", build_packages=tuple(entry["build_packages"]), **project, **args["build"]
            )
        if required.lines or not required.resolved:
            sets["app"] = wheelhouse.Wanted(
                requirements=required.lines,
                constraints=required.constraints,
                further=tuple(packing.further_wheels(entry)),
                build_packages=tuple(entry["build_packages"]),
                **({} if required.resolved else project),
                **args["build"],
            )
        return sets

    def _known(self, entry: Entry) -> dict[str, Any]:
        """These sets as the module wants them."""
        house = self._house()
        return {
            name: {"key": wanted.key, "known": wheelhouse.known(wanted, house)}
            for name, wanted in self._sets(entry).items()
        }

    def _bundle(self, entry: Entry, archive: Path, platform: str, made: Path | None) -> Iterator[Path]:
        """What a controller without access needs for the app, below the project; each wheel is seen to be unaltered."""
        yield archive.relative_to(PROJECT)
        if made:
            yield made.relative_to(PROJECT)
        folder = sources.fetched(entry["source"]).folder
        if folder and folder.is_relative_to(sources.CACHE):
            yield folder.relative_to(PROJECT)
        lock = folder / entry["requirements"] if folder else Path()
        if lock.name in exporters.EXPORTERS:
            yield exporters.kept(lock, entry["extras"], entry["groups"]).relative_to(PROJECT)
        for wanted in self._sets(entry).values():
            yield wheelhouse.record(wanted, platform, self._house()).relative_to(PROJECT)
            for wheel in wheelhouse.known(wanted, self._house())[platform]:
                yield wheelhouse.seen(platform, wheel, self._house()).relative_to(PROJECT)

    def _house(self) -> Path:
        """Where the wheelhouse is; a path in the inventory is one below the project."""
        return PROJECT / self._task.args["wheels"]["house"]

    def _tmp(self) -> str:
        """A folder on the host that is gone when the task is."""
        return self._connection._shell.tmpdir or self._make_tmp_path()

    def _send(self, file: Path) -> str:
        """Copy a file to the host; its path there."""
        return self._transfer_file(str(file), self._connection._shell.join_path(self._tmp(), file.name))

    def _fetch(self, arguments: dict[str, Any]) -> str:
        """Get a packed release to the controller; its path, below the project."""
        archive: Path = sources.CACHE / "shipped" / f"{arguments['name']}-{arguments['target']}.tar.gz"
        with sources.locked(archive.parent) as aside:
            self._connection.fetch_file(arguments["archive"], str(aside / archive.name))
            sources.settle(aside / archive.name, archive)
            sources.prune(archive.parent.glob("*.tar.gz"), KEPT, aside)
        return str(archive.relative_to(PROJECT))

    def _import(self, archive: Path, release: str) -> dict[str, Any]:
        """What makes a packed release's environment on another host."""
        record = packing.shipped(archive, release)
        sets = {f"set {number}": key for number, key in enumerate(record["sets"])}
        return {
            "archive": self._send(archive),
            "python": record["python"],
            "wheels": {name: {"key": key, "known": wheelhouse.built(key, self._house())} for name, key in sets.items()},
        }

    def _arguments(self, entry: Entry, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The module's arguments but for the archive."""
        args = json.loads(json.dumps(self._task.args))
        step, target = args.get("step", "present"), args.get("target", "inventory")
        common = {
            "name": entry["name"],
            "step": step,
            "target": target,
            "holder": owner(),
            **{key: args[key] for key in PASSED_ON if key in args},
        }
        if step == "absent":
            return common
        if step == "wheels":
            return {**common, "python": entry["python"], "wheels": self._known(entry)}
        if step == "export":
            return {**common, "archive": self._connection._shell.join_path(self._tmp(), "release.tar.gz")}
        common |= {
            "hooks": entry["hooks"],
            "secrets": packing.secrets_sent(entry),
        }
        if step == "import":
            return {**common, **self._import(PROJECT / args["archive"], target)}
        if step != "present" and (step != "warm" or target != "inventory"):
            return common
        return {**common, **self._release(entry, args, task_vars)}

    def _release(self, entry: Entry, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """What the inventory asks for: the release and the router before it."""
        fetched = sources.fetched(entry["source"])
        files = packing.contents(fetched.folder, entry["source"], entry["static"].values()).files
        required = requirements.required(fetched, entry)
        templates = [path for folder in args["templates"] for path in sorted((PROJECT / folder).glob("*.j2"))]
        source = packing.source_hash(fetched.folder, files)
        inputs = packing.release_inputs(entry, source, required, templates, args["settings"])
        release = packing.digest(inputs)[:12]

        path = f"/srv/{entry['name']}/releases/{release}"
        links = {f"/srv/{entry['name']}/{link}": f"{path}/{file}" for link, file in linked(entry).items()}
        variables = {
            **task_vars,
            "app": entry,
            "settings": args["settings"],
            "release": {"id": release, "path": path, "links": links},
        }
        environment = {
            **{name: str(value) for name, value in entry["env"].items()},
            "FLASKFLEET_APP": entry["name"],
            "FLASKFLEET_RELEASE": release,
            "FLASKFLEET_SHARED": f"/srv/{entry['name']}/shared",
        }
        router = render(self._templar, PROJECT / args["router_template"], variables) if entry["http"] else None
        return {
            "release": release,
            "files": {template.stem: render(self._templar, template, variables) for template in templates},
            "router": router,
            "env": environment,
            "own_files": packing.hidden(entry["files"]),
            "secret_files": sorted(entry["secret_files"]),
            "static": entry["static"],
            "python": entry["python"],
            "wheels": self._known(entry),
            "record": {
                "app": entry["name"],
                "release": release,
                "source": fetched.record,
                "host": next(iter(entry["server_names"]), "localhost").removeprefix("*."),
                "inputs": inputs,
            },
        }
