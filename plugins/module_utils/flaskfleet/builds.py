"""Building wheels on one host of a platform: pip resolves the requirements and compiles what has no wheel.

uWSGI links with Python. If that Python was compiled with ``--with-lto`` by another major version of gcc than the one
on PATH (Anaconda's is), the linker refuses its objects: ``lto-wrapper failed``. uWSGI is then built without LTO, which
works if the objects are fat, as CPython's are. If that fails too, it is built by the gcc that has built that Python.
This gcc is installed beside the host's own and used for this build only.
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
PROJECT = "project.tar.gz"  # a packed source, in src/, that is built besides the requirements
IS_COMPILED = r".*\.\(c\|cc\|cpp\|cxx\|pyx\|rs\|f\|f90\)"  # source files of an extension, for find
LINES = 40  # of a build's output, in a message


@dataclass(frozen=True)
class Recipe:
    """What to build, and how."""

    requirements: str  # the text of a requirements file
    constraints: str = ""  # the text of a file for pip's option -c
    dependencies: str | None = None  # the project's extras, like "[mail]", to build its dependencies too; None: don't
    tools: str = ""  # requirements of the build tools, pip among them, all by hash; empty: the interpreter's pip
    isolation: bool = True  # pip's build isolation; without it the tools above build everything
    packages: tuple[str, ...] = ()  # Debian packages that any compilation needs
    build_packages: tuple[str, ...] = ()  # Debian packages that these requirements need: headers of libraries
    gcc: str = ""  # auto or a major version, if the requirements link with Python; else empty
    prebuilt: str = ""  # a requirement to use if every attempt to compile fails
    variables: Mapping[str, str] = field(default_factory=dict)  # environment variables of all attempts
    index_url: str = ""
    keep_toolchain: bool = False


@dataclass
class Attempt:
    """A way to build, and its outcome."""

    requirements: str
    compiler: str = ""  # empty: none is installed, so only builds without compilation succeed
    flags: str = ""
    seconds: float = 0.0
    error: str = ""
    upgraded: Sequence[str] = ()  # packages of the host that apt upgraded to install the compiler

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of this attempt."""
        flags = {"CFLAGS": self.flags, "LDFLAGS": self.flags} if self.flags else {}
        return flags | ({"CC": self.compiler} if self.compiler not in ("", "gcc") else {})

    def __str__(self) -> str:
        first, *others = re.findall(r"^\w\S*", self.requirements, re.MULTILINE) or ["the project"]
        what = f"{first} and {len(others)} more" if others else first
        by = f"by {self.compiler} {self.flags}".rstrip() if self.compiler else "without a compiler"
        upgraded = f", upgraded {' '.join(self.upgraded)}" if self.upgraded else ""
        return f"{LOGIN.sub('', what)} {by}, {self.seconds:.0f} s{upgraded}"


@dataclass
class Built:
    """The wheels of a recipe, the names of those compiled here (the others are an index's), and all attempts."""

    wheels: list[Wheel]
    compiled: list[str]
    tried: list[Attempt]


def build(recipe: Recipe, python: str, folder: Path, further: Path | None = None) -> Built:
    """Build all wheels of a recipe into a folder. The build runs in a sandbox.

    :param further: a folder of wheels that no index has, and of a packed project to build.
    :raises BuildFailed: every attempt failed; the folder does not exist.
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
        variables = {**recipe.variables, **_index_variables(recipe.index_url, box)}
        pip = _install_pip(box, recipe, python, variables)
        for attempt in attempts(recipe, lambda: gcc_of(python), tried):
            tried.append(attempt)
            started, wheels = time.monotonic(), box.work / f"wheels-{len(tried)}"
            try:
                if attempt.compiler:
                    attempt.upgraded = install([*recipe.packages, *recipe.build_packages, attempt.compiler])
                output, project_output = _run_pip_wheel(box, pip, recipe, attempt, wheels, variables)
                compiled = " ".join(BUILT.findall(output)).split()
                if compiled and not attempt.compiler and attempt.requirements == recipe.requirements:
                    # Without a compiler an optional extension is left out silently.
                    raise BuildFailed(f"{', '.join(compiled)} was built without a compiler")
                compiled += " ".join(BUILT.findall(project_output)).split()
            except (BuildFailed, CommandFailed) as failed:
                attempt.error = str(failed)
            attempt.seconds = round(time.monotonic() - started, 1)
            if not attempt.error:
                box.take(wheels, folder)
                found = [Wheel(file=path.name, sha256=sha256_of(path)) for path in sorted(folder.glob("*.whl"))]
                return Built(found, compiled, tried)
    raise BuildFailed(explain(tried))


def attempts(recipe: Recipe, built_by: Callable[[], str], tried: Sequence[Attempt]) -> Iterator[Attempt]:
    """The ways to build. The next one is tried if the one before has failed.

    :param built_by: returns the gcc that has built the interpreter, see ``gcc_of``.
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
    """A message: the attempts, the end of each one's output, and the header that was missing."""
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


def _install_pip(box: Sandbox, recipe: Recipe, python: str, variables: Mapping[str, str]) -> list[str]:
    """Install pip and the build tools into the sandbox; the command line that runs pip."""
    tools = box.work / "tools"
    box.run([python, "-I", "-m", "venv", tools])
    pip = [str(tools / "bin/python"), "-m", "pip"]
    if recipe.tools:
        box.run([*pip, "install", "--quiet", "--require-hashes", "-r", box.give("tools.txt", recipe.tools)], variables)
    return pip


def _run_pip_wheel(
    box: Sandbox, pip: Sequence[str], recipe: Recipe, attempt: Attempt, wheels: Path, variables: Mapping[str, str]
) -> tuple[str, str]:
    """Run ``pip wheel`` into a folder of the sandbox; its output, and that of building a project without extensions.

    The project is built first and separately, because pip refuses what has no hash if other requirements have one.
    """
    variables = {**variables, **attempt.variables}
    further = box.given / "further"
    command = [*pip, "wheel", "--wheel-dir", str(wheels), "--progress-bar", "off"]
    if not recipe.isolation:
        command.append("--no-build-isolation")
    if further.exists():
        command += ["--find-links", str(further)]
    wanted, output, project_output = [], "", ""
    if (further / PROJECT).exists():
        project = wheels.with_name(f"project-{wheels.name}")
        box.run(["mkdir", project])
        box.run(["tar", "--extract", f"--file={further / PROJECT}", f"--directory={project}", "src"])
        has_extension = box.run(["find", project, "-regex", IS_COMPILED, "-print", "-quit"])
        project_output = box.run([*command, "--no-deps", project / "src"], variables)
        if has_extension:
            output, project_output = project_output, ""
        if recipe.dependencies is not None:
            wanted = [f"{wheel}{recipe.dependencies}" for wheel in wheels.glob("*.whl")]
    if attempt.requirements:
        wanted += ["-r", str(box.give("requirements.txt", attempt.requirements))]
    if recipe.constraints:
        command += ["-c", str(box.give("constraints.txt", recipe.constraints))]
    if "--hash=" in attempt.requirements:
        command.append("--require-hashes")
    if wanted:
        output += box.run([*command, *wanted], variables)
    return output, project_output


def _index_variables(url: str, box: Sandbox) -> dict[str, str]:
    """pip's variables for an index. The login goes into a netrc file, because any user can see a URL on a command line.

    Code that pip builds can read the file. Give the index a login of its own that may only read.
    """
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    if not login:
        return {"PIP_INDEX_URL": url} if url else {}
    user, _, password = login.partition(":")
    netrc = box.give("netrc", f"machine {parts.hostname} login {unquote(user)} password {unquote(password)}\n")
    return {"PIP_INDEX_URL": parts._replace(netloc=host).geturl(), "NETRC": str(netrc)}
