"""Building wheels on one host of a platform: pip resolves what is asked for, and compiles what has no wheel.

uWSGI links with Python. Where that was compiled with ``--with-lto`` by another major version of gcc than the one on
PATH (Anaconda's, for one), the linker refuses its objects: ``lto-wrapper failed``. Then it is built without LTO, which
is enough where the objects are fat, as CPython's are, and else by the gcc that has built that Python, which is
installed beside the host's own and has this build alone.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .files import Busy
from .sandbox import CommandFailed, Sandbox, sandbox
from .toolchain import PATIENCE_SECONDS, BuildFailed, gcc_of, toolchain
from .wheels import Wheel, sha256_of

LTO_MISMATCH = re.compile(r"generated with LTO version|lto-wrapper failed|lto1: fatal error")
NEEDS_A_COMPILER = re.compile(
    r"(?i)failed building wheel|subprocess-exited-with-error|metadata-generation-failed|command errored out"
    r"|cannot find command|was built without a compiler"
)
MISSING = re.compile(r"fatal error: (\S+): No such file|\b(\S+) executable not found")
BUILT = re.compile(r"^Successfully built (.*)$", re.MULTILINE)
LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
PROJECT = "project.tar.gz"  # among what no index has: a packed source, in src/, that is built, too
IS_COMPILED = r".*\.\(c\|cc\|cpp\|cxx\|pyx\|rs\|f\|f90\)"  # of files, for find
LINES = 40  # of what a build said, in a message


@dataclass(frozen=True)
class Recipe:
    """What is asked for."""

    requirements: str  # the text of a requirements file
    constraints: str = ""  # of a file for pip's option -c
    dependencies: str | None = None  # the project's extras, like "[mail]", to build what it needs, too; None: not that
    tools: str = ""  # one of what builds it, pip among it, all by hash; empty: what the interpreter brings
    isolation: bool = True  # whether a pyproject.toml gets what it asks for, as pip does; else it has the tools
    packages: tuple[str, ...] = ()  # the distribution's, that any compiling needs
    build_packages: tuple[str, ...] = ()  # and those for what is asked for here: headers of libraries
    gcc: str = ""  # of what links with Python: auto, or a major version; empty: it does not
    prebuilt: str = ""  # a requirement to take where none of that works
    variables: Mapping[str, str] = field(default_factory=dict)  # of the environment, for all attempts
    index_url: str = ""
    keep_toolchain: bool = False


@dataclass
class Attempt:
    """A way to build, and what became of it."""

    requirements: str
    compiler: str = ""  # empty: there may be none, only what compiles nothing works
    flags: str = ""
    seconds: float = 0.0
    error: str = ""
    upgraded: Sequence[str] = ()  # packages of the host that had to follow its compiler's

    @property
    def variables(self) -> dict[str, str]:
        """What it adds to the environment of the build."""
        flags = {"CFLAGS": self.flags, "LDFLAGS": self.flags} if self.flags else {}
        return flags | ({"CC": self.compiler} if self.compiler not in ("", "gcc") else {})

    def __str__(self) -> str:
        first, *others = re.findall(r"^\w\S*", self.requirements, re.MULTILINE) or ["the project"]
        what = f"{first} and {len(others)} more" if others else first
        by = f"{self.compiler or 'no compiler'} {self.flags}".rstrip()
        upgraded = f", upgraded {' '.join(self.upgraded)}" if self.upgraded else ""
        return f"{LOGIN.sub('', what)} by {by}, {self.seconds:.0f} s{upgraded}"


@dataclass
class Built:
    """The wheels of a recipe, the names of those that were compiled here (the others are an index's), and how."""

    wheels: list[Wheel]
    compiled: list[str]
    tried: list[Attempt]


def build(recipe: Recipe, python: str, folder: Path, further: Path | None = None) -> Built:
    """Make a folder of all wheels that a recipe leads to. What builds them runs in a sandbox.

    :param further: a folder of wheels that no index has, and of a project that is built, too.
    :raises BuildFailed: it can't be done; there is no folder.
    """
    try:
        return _build(recipe, python, folder, further)
    except CommandFailed as error:
        raise BuildFailed(str(error)) from error
    except Busy as other:
        raise BuildFailed(f"process {other} has been building here for half an hour; end it, or wait for it") from other


def _build(recipe: Recipe, python: str, folder: Path, further: Path | None) -> Built:
    tried: list[Attempt] = []
    with toolchain(recipe.keep_toolchain) as install, sandbox("build", PATIENCE_SECONDS) as box:
        if further:
            shutil.copytree(further, box.given / "further")
        variables = {**recipe.variables, **_index(recipe.index_url, box)}
        pip = _pip(box, recipe, python, variables)
        for attempt in attempts(recipe, lambda: gcc_of(python), tried):
            tried.append(attempt)
            started, wheels = time.monotonic(), box.work / f"wheels-{len(tried)}"
            try:
                if attempt.compiler:
                    attempt.upgraded = install([*recipe.packages, *recipe.build_packages, attempt.compiler])
                said, of_project = _wheel(box, pip, recipe, attempt, wheels, variables)
                compiled = " ".join(BUILT.findall(said)).split()
                if compiled and not attempt.compiler and attempt.requirements == recipe.requirements:
                    # An extension that is optional would be missing.
                    raise BuildFailed(f"{', '.join(compiled)} was built without a compiler")
                compiled += " ".join(BUILT.findall(of_project)).split()
            except (BuildFailed, CommandFailed) as failed:
                attempt.error = str(failed)
            attempt.seconds = round(time.monotonic() - started, 1)
            if not attempt.error:
                box.take(wheels, folder)
                found = [Wheel(file=path.name, sha256=sha256_of(path)) for path in sorted(folder.glob("*.whl"))]
                return Built(found, compiled, tried)
    raise BuildFailed(explain(tried))


def attempts(recipe: Recipe, built_by: Callable[[], str], tried: Sequence[Attempt]) -> Iterator[Attempt]:
    """The ways to build, each if those before it have failed.

    :param built_by: tells the gcc that has built the interpreter, see ``gcc_of``.
    """
    asked = recipe.requirements
    if recipe.gcc == "auto":
        yield Attempt(asked, "gcc")
        if LTO_MISMATCH.search(tried[-1].error):
            yield Attempt(asked, "gcc", "-fno-lto")
            if compiler := built_by():
                yield Attempt(asked, compiler)
    elif recipe.gcc:
        yield Attempt(asked, f"gcc-{recipe.gcc}")
    else:
        if not recipe.build_packages:
            yield Attempt(asked)
        if recipe.build_packages or NEEDS_A_COMPILER.search(tried[-1].error):
            yield Attempt(asked, "gcc")
    if recipe.prebuilt:
        yield Attempt(recipe.prebuilt)


def explain(tried: Sequence[Attempt]) -> str:
    """What was tried, what each attempt said in the end, and which file of a library was missing."""
    lines = [
        line
        for attempt in tried
        for line in (f"tried {attempt}:", *(f"    {line}" for line in attempt.error.strip().splitlines()[-LINES:]))
    ]
    if found := MISSING.search(tried[-1].error):
        lines.append(
            f"name the package that brings {found[1] or found[2]} in build_packages of the app (apt-file search)"
        )
    return "\n".join(lines)


def _pip(box: Sandbox, recipe: Recipe, python: str, variables: Mapping[str, str]) -> list[str]:
    """Make pip for a build, with the tools that it needs."""
    tools = box.work / "tools"
    box.run([python, "-I", "-m", "venv", tools])
    pip = [str(tools / "bin/python"), "-m", "pip"]
    if recipe.tools:
        box.run([*pip, "install", "--quiet", "--require-hashes", "-r", box.give("tools.txt", recipe.tools)], variables)
    return pip


def _wheel(
    box: Sandbox, pip: Sequence[str], recipe: Recipe, attempt: Attempt, wheels: Path, variables: Mapping[str, str]
) -> tuple[str, str]:
    """Run ``pip wheel`` into a folder of the sandbox; what it said, and what it said of a project without extensions.

    The project is built first, alone: where requirements have hashes, pip takes nothing that has none.
    """
    variables = {**variables, **attempt.variables}
    given = box.given / "further"
    command = [*pip, "wheel", "--wheel-dir", str(wheels), "--progress-bar", "off"]
    if not recipe.isolation:
        command.append("--no-build-isolation")
    if given.exists():
        command += ["--find-links", str(given)]
    wanted, said, of_project = [], "", ""
    if (given / PROJECT).exists():
        project = wheels.with_name(f"project-{wheels.name}")
        box.run(["mkdir", project])
        box.run(["tar", "--extract", f"--file={given / PROJECT}", f"--directory={project}", "src"])
        has_extension = box.run(["find", project, "-regex", IS_COMPILED, "-print", "-quit"])
        of_project = box.run([*command, "--no-deps", project / "src"], variables)
        if has_extension:
            said, of_project = of_project, ""
        if recipe.dependencies is not None:
            wanted = [f"{wheel}{recipe.dependencies}" for wheel in wheels.glob("*.whl")]
    if attempt.requirements:
        wanted += ["-r", str(box.give("requirements.txt", attempt.requirements))]
    if recipe.constraints:
        command += ["-c", str(box.give("constraints.txt", recipe.constraints))]
    if "--hash=" in attempt.requirements:
        command.append("--require-hashes")
    if wanted:
        said += box.run([*command, *wanted], variables)
    return said, of_project


def _index(url: str, box: Sandbox) -> dict[str, str]:
    """The index in pip's variables; its login in a file, because pip hands the URL on to processes that everybody sees.

    What is built by pip can read it, as by hand: give the index a login of its own, which may do nothing but read.
    """
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    if not login:
        return {"PIP_INDEX_URL": url} if url else {}
    user, _, password = login.partition(":")
    netrc = box.give("netrc", f"machine {parts.hostname} login {unquote(user)} password {unquote(password)}\n")
    return {"PIP_INDEX_URL": parts._replace(netloc=host).geturl(), "NETRC": str(netrc)}
