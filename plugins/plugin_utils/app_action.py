"""What the action plugins of apps have in common: they build and upload what a host needs."""

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
    """An action about apps; ``self.options`` are its task's, checked, ``self.task_vars`` the host's variables."""

    MODULE = ""

    def run(self, tmp: Any = None, task_vars: Arguments | None = None) -> Arguments:
        """Run the action; the result is the module's."""
        super().run(tmp, task_vars)
        self.task_vars = task_vars or {}
        self.host = self.task_vars.get("inventory_hostname", "")
        self.options = checked(self.MODULE, self._task.args)
        return self.act()

    def act(self) -> Arguments:
        """What the action does, once its options are checked."""
        raise NotImplementedError

    def call(self, arguments: Arguments) -> Arguments:
        """Run the module; break a lock of this controller whose process is gone."""
        return breaking_stale_lock(
            lambda **further: self._execute_module(self.MODULE, {**arguments, **further}, task_vars=self.task_vars)
        )

    def say(self, result: Arguments, name: str) -> None:
        """Show what hooks said."""
        for line in result.get("said", []):
            Display().display(f"    {name} on {self.host}: {line}")

    def supply(self, entry: Entry, needs: Arguments, wheels: Arguments) -> Arguments:
        """Build and upload what the host needs, as further arguments.

        :param needs: what the module has told. ``wheels``: the argument of that name; what is built is added there.
        """
        platform = needs["platform"]
        for name in needs["sets"]:
            wanted = wheel_sets.wanted(entry, self.options["wheels"])[name]
            self.build(wanted, platform, entry)
            wheels[name]["known"] = wheelhouse.known(wanted, self._house())
        brought: Arguments = {"wheels": wheels}
        if needs["wheels"]:
            candidates = [wheel for one in wheels.values() for wheel in one["known"].get(platform, [])]
            brought["wheels_archive"] = self._send_wheels(platform, candidates, needs["wheels"])
        if needs["archive"]:
            brought["archive"] = self.send(packing.pack_source(entry, self.built(entry, platform)))
        return brought

    def build(self, wanted: wheelhouse.Wanted, platform: str, entry: Entry) -> None:
        """See that the wheelhouse has a wheel set: this host builds it unless another host of its platform does."""
        builder = self.options["wheels"]["builder"]
        if builder and self.host != builder:
            if platform in wheelhouse.known(wanted, self._house()):
                return
            raise AnsibleActionFail(_not_built(builder, self.host, platform))

        def build(archive: Path) -> Arguments:
            Display().display(f"    {self.host}: building wheels for all of {platform}, once; compiling takes minutes")
            there = self._on_host("built.tar")
            arguments = {"python": entry["python"], "recipe": wanted.recipe, "index_url": wanted.index_url}
            arguments |= {"archive": there, **self._further(wanted)}
            result = self._execute_module("wheel_set", arguments, task_vars=self.task_vars)
            if result.get("failed"):
                kind = wheelhouse.BuildFailed if result.get("build_failed") else AnsibleActionFail
                raise kind(f"no wheels for {platform} on {self.host}: {result.get('msg')}")
            self._connection.fetch_file(there, str(archive))
            return dict(result)

        for line in wheelhouse.obtain(wanted, platform, self.host, build, self._house()):
            Display().display(f"    {self.host}: {line}")

    def _further(self, wanted: wheelhouse.Wanted) -> Arguments:
        """Wheels and a project that no index has, uploaded for a build."""
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
            return {"further": self.send(Path(file.name))}

    def built(self, entry: Entry, platform: str) -> Path | None:
        """The source as the app's build leaves it on a platform: this host builds it unless another one does."""
        if not entry["build"]:
            return None
        source, sets = packing.pack_source(entry), wheel_sets.wanted(entry, self.options["wheels"]).values()
        variables = {"FLASK_APP": entry["wsgi"], **entry["env"]}
        made_of = [source.name, entry["build"], variables, entry["build_packages"], [one.key for one in sets]]
        key = packing.digest(made_of)
        builder = self.options["wheels"]["builder"]
        if builder and self.host != builder and not built.place(key, platform).is_dir():
            raise AnsibleActionFail(_not_built(builder, self.host, platform))

        def build(archive: Path) -> None:
            for wanted in sets:
                self.build(wanted, platform, entry)
            wheels = merged(wheelhouse.known(wanted, self._house())[platform] for wanted in sets)
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
        """Run an app's build on the host; what it makes comes as an archive."""
        Display().display(f"    {self.host}: building {entry['name']} for all of {platform}, once")
        there = self._on_host("built.tar")
        arguments = {
            "commands": entry["build"],
            "source": self.send(source),
            "python": entry["python"],
            "platform": platform,
            "wheels": wheels,
            "wheels_archive": self._send_wheels(platform, wheels, [wheel["sha256"] for wheel in wheels]),
            "variables": variables,
            "packages": entry["build_packages"],
            "keep_toolchain": self.options["wheels"]["build"]["keep_toolchain"],
            "archive": there,
        }
        result = self._execute_module("source_build", arguments, task_vars=self.task_vars)
        if result.get("failed"):
            raise wheelhouse.BuildFailed(f"build on {self.host}: {result.get('msg')}")
        self.say(result, entry["name"])
        self._connection.fetch_file(there, str(archive))

    def _house(self) -> Path:
        return wheel_sets.house(self.options["wheels"])

    def _send_wheels(self, platform: str, candidates: Iterable[Wheel], wanted: Iterable[str]) -> str:
        # A name of its own: a task may bring wheels of several apps.
        with tempfile.NamedTemporaryFile(prefix="wheels-", suffix=".tar") as packed:
            wheelhouse.pack(platform, candidates, wanted, Path(packed.name), self._house())
            return self.send(Path(packed.name))

    def send(self, file: Path) -> str:
        """Upload a file; its path on the host."""
        return str(self._transfer_file(str(file), self._on_host(file.name)))

    def _on_host(self, name: str) -> str:
        """A path in a folder on the host that is gone when the task is."""
        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        return str(self._connection._shell.join_path(folder, name))


@contextmanager
def failures_of(name: str) -> Iterator[None]:
    """Let a failure on the controller have the app's name."""
    try:
        yield
    except FAILURES as error:
        raise AnsibleActionFail(f"flask_apps.{name}: {error}") from error


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member that the builder's user may read, whatever the controller's umask was."""
    member.mode = 0o644
    return member


def _not_built(builder: str, host: str, platform: str) -> str:
    return (
        f"python_builder is {builder}, and it has not built what {host} ({platform}) lacks; is it part of "
        "this run, of the same platform, and does it have the app?"
    )
