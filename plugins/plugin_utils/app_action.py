"""Shared code of the action plugins about apps: building and uploading for a host."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from module_utils.flaskfleet.builds import PROJECT as PROJECT_ARCHIVE
from module_utils.flaskfleet.shared import overlaps
from module_utils.flaskfleet.wheels import Wheel, WheelFailed, merged

from . import built, packing, sources, wheel_sets, wheelhouse
from .entries import Entry
from .options import checked
from .run_identity import breaking_stale_lock

Arguments = dict[str, Any]
FAILURES = (sources.SourceError, WheelFailed, wheelhouse.BuildFailed, OSError)


class AppAction(ActionBase):
    """An action about apps. ``self.options`` are the task's, checked; ``self.task_vars`` are the host's."""

    MODULE = ""

    def run(self, tmp: Any = None, task_vars: Arguments | None = None) -> Arguments:
        """Run the action; the result is the module's."""
        super().run(tmp, task_vars)
        self.task_vars = task_vars or {}
        self.host = self.task_vars.get("inventory_hostname", "")
        self.options = checked(self.MODULE, self._task.args)
        return self.act()

    def act(self) -> Arguments:
        """Run the action with checked options; the result is the module's."""
        raise NotImplementedError

    def run_module(self, arguments: Arguments) -> Arguments:
        """Run the module; break a lock whose holder is a process of this controller that has ended."""
        return breaking_stale_lock(
            lambda **further: self._execute_module(self.MODULE, {**arguments, **further}, task_vars=self.task_vars)
        )

    def show_hook_output(self, result: Arguments, name: str) -> None:
        """Display the output of hooks."""
        for line in result.get("said", []):
            Display().display(f"{name} on {self.host}: {line}")

    def upload_needs(self, entry: Entry, needs: Arguments, wheels: Arguments) -> Arguments:
        """Build and upload what the host needs; further arguments of the module.

        :param needs: from the module's result. ``wheels``: the module's argument; built wheels are added to it.
        """
        platform = needs["platform"]
        for name in needs["sets"]:
            wanted = wheel_sets.wanted(entry, self.options["wheels"])[name]
            self.build_wheels(name, wanted, platform, entry)
            wheels[name]["known"] = wheelhouse.known(wanted, self._wheelhouse())
        arguments: Arguments = {"wheels": wheels}
        if needs["wheels"]:
            candidates = [wheel for wheel_set in wheels.values() for wheel in wheel_set["known"].get(platform, [])]
            arguments["wheels_archive"] = self._upload_wheels(platform, candidates, needs["wheels"])
        if needs["archive"]:
            arguments["archive"] = self.upload(packing.pack_source(entry, self.built_source(entry, platform)))
        return arguments

    def build_wheels(self, name: str, wanted: wheelhouse.Wanted, platform: str, entry: Entry) -> None:
        """Build a wheel set on this host unless the wheelhouse has it or another host of its platform builds it."""
        builder = self.options["wheels"]["builder"]
        if builder and self.host != builder:
            if platform in wheelhouse.known(wanted, self._wheelhouse()):
                return
            raise AnsibleActionFail(_builder_lacks_message(builder, self.host, platform))

        def build(archive: Path) -> Arguments:
            of = {"uwsgi": "uWSGI", "project": f"the project of {entry['name']}"}.get(name, entry["name"])
            what = f"the wheels of {of} for all hosts of the platform {platform}"
            Display().display(f"{self.host}: building {what}; compiling takes minutes")
            on_host = self._path_on_host("built.tar")
            arguments = {"python": entry["python"], "recipe": wanted.recipe, "index_url": wanted.index_url}
            arguments |= {"archive": on_host, **self._upload_further(wanted)}
            result = self._execute_module("wheel_set", arguments, task_vars=self.task_vars)
            if result.get("failed"):
                kind = wheelhouse.BuildFailed if result.get("build_failed") else AnsibleActionFail
                raise kind(f"no wheels for {platform} on {self.host}: {result.get('msg')}")
            self._connection.fetch_file(on_host, str(archive))
            return dict(result)

        for line in wheelhouse.obtain(wanted, platform, self.host, build, self._wheelhouse()):
            Display().display(f"{self.host}: {line}")

    def _upload_further(self, wanted: wheelhouse.Wanted) -> Arguments:
        """Upload the wheels and the project that no index has for a build; further arguments of wheel_set."""
        further = {path.name: path for path in wanted.further}
        if wanted.project:
            further[PROJECT_ARCHIVE] = wanted.project
        if not further:
            return {}
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for name, path in further.items():
                    tar.add(path, name, filter=_readable)
            file.flush()
            return {"further": self.upload(Path(file.name))}

    def built_source(self, entry: Entry, platform: str) -> Path | None:
        """The source after the app's build on a platform; built on this host unless it is in the cache."""
        if not entry["build"]:
            return None
        source, sets = packing.pack_source(entry), wheel_sets.wanted(entry, self.options["wheels"])
        variables = {"FLASK_APP": entry["wsgi"], **entry["env"]}
        keys = [wheel_set.key for wheel_set in sets.values()]
        inputs = [source.name, entry["build"], variables, entry["build_packages"], keys]
        key = packing.digest(inputs)
        builder = self.options["wheels"]["builder"]
        if builder and self.host != builder and not built.place(key, platform).is_dir():
            raise AnsibleActionFail(_builder_lacks_message(builder, self.host, platform))

        def build(archive: Path) -> None:
            for name, wanted in sets.items():
                self.build_wheels(name, wanted, platform, entry)
            wheels = merged(wheelhouse.known(wanted, self._wheelhouse())[platform] for wanted in sets.values())
            self._build_source(entry, platform, source, wheels, variables, archive)

        made = built.obtain(key, platform, build)
        for prefix, folder in entry["static"].items():
            if not (made / folder).is_dir() and not overlaps(folder, entry["shared_paths"]):
                raise sources.SourceError(
                    f"static.{prefix}: build has made no folder {folder}; correct one of them (what it made: {made})"
                )
        return made

    def _build_source(
        self, entry: Entry, platform: str, source: Path, wheels: list[Wheel], variables: Arguments, archive: Path
    ) -> None:
        """Run an app's build on the host and fetch the result as an archive."""
        Display().display(f"{self.host}: building {entry['name']} for all hosts of the platform {platform}")
        on_host = self._path_on_host("built.tar")
        arguments = {
            "commands": entry["build"],
            "source": self.upload(source),
            "python": entry["python"],
            "platform": platform,
            "wheels": wheels,
            "wheels_archive": self._upload_wheels(platform, wheels, [wheel["sha256"] for wheel in wheels]),
            "variables": variables,
            "packages": entry["build_packages"],
            "keep_toolchain": self.options["wheels"]["build"]["keep_toolchain"],
            "archive": on_host,
        }
        result = self._execute_module("source_build", arguments, task_vars=self.task_vars)
        if result.get("failed"):
            raise wheelhouse.BuildFailed(f"build on {self.host}: {result.get('msg')}")
        self.show_hook_output(result, entry["name"])
        self._connection.fetch_file(on_host, str(archive))

    def _wheelhouse(self) -> Path:
        return wheel_sets.wheelhouse_folder(self.options["wheels"])

    def _upload_wheels(self, platform: str, candidates: Iterable[Wheel], wanted: Iterable[str]) -> str:
        # A unique name, because one task may upload wheels of several apps.
        with tempfile.NamedTemporaryFile(prefix="wheels-", suffix=".tar") as packed:
            wheelhouse.pack(platform, candidates, wanted, Path(packed.name), self._wheelhouse())
            return self.upload(Path(packed.name))

    def upload(self, file: Path) -> str:
        """Upload a file; its path on the host."""
        return str(self._transfer_file(str(file), self._path_on_host(file.name)))

    def _path_on_host(self, name: str) -> str:
        """A path in the folder on the host that Ansible removes after the task."""
        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        return str(self._connection._shell.join_path(folder, name))


@contextmanager
def naming_app(name: str) -> Iterator[None]:
    """Add the app's name to the message of a failure on the controller."""
    try:
        yield
    except FAILURES as error:
        raise AnsibleActionFail(f"flask_apps.{name}: {error}") from error


def still_lacks_message(name: str, needs: Arguments) -> str:
    """The message for a host that lacks something after everything was uploaded. ``needs``: from a module's result."""
    lacking = [f"wheels for {set_name}" for set_name in needs["sets"]]
    lacking += [f"wheels by hash: {len(needs['wheels'])}"] if needs["wheels"] else []
    lacking += ["the source"] if needs["archive"] else []
    return (
        f"flask_apps.{name}: the host ({needs['platform']}) still lacks {', '.join(lacking)}, which were uploaded; "
        "run again, and report it if it stays"
    )


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make a member readable for the builder's user, whatever the controller's umask was."""
    member.mode = 0o644
    return member


def _builder_lacks_message(builder: str, host: str, platform: str) -> str:
    return (
        f"python_builder is {builder}, and it has not built what {host} ({platform}) lacks; run without --limit, "
        "or name a host of this platform that has the app"
    )
