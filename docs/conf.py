"""Builds these pages as a site: make docs.

The folder of the sources is the repository, so that README.md and the READMEs of the roles are pages like any other.
A link to another file or folder leads to a page that shows it. The pages are plain Markdown without a directive.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[1]

project = "flaskfleet"
author = "the authors of flaskfleet"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md", "roles/*/README.md"]
exclude_patterns = [".*", "bench", "molecule", "plugins", "tests"]
myst_heading_anchors = 4
# A command of a role's README may be for no lexer's eyes: what can't be coloured is shown plain.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = "flaskfleet"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

# The menu: its headings and pages. It is put behind docs/index.md, where a file would show it as a block of code.
MENU = {
    "Use": ["README", "docs/trust", "docs/state-on-hosts", "SECURITY", "CHANGELOG"],
    "Understand": [
        "docs/architecture", "docs/life-of-a-request", "docs/life-of-a-release", "docs/life-of-a-run", "docs/decisions",
        "docs/glossary",
    ],
    "Change": ["docs/contributing"],
    "Roles": sorted(f"roles/{path.parent.name}/README" for path in ROOT.glob("roles/*/README.md")),
}  # fmt: skip


def add_menu(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the menu behind the first page."""
    if docname == root_doc:
        for caption, pages in MENU.items():
            entries = "\n".join(f"README </{page}>" if page == "README" else f"/{page}" for page in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


class RepositoryLinks(SphinxTransform):
    """Lets a link to a file or a folder of the repository that is no page lead to one that shows it."""

    default_priority = 10  # before Sphinx copies files for download

    def apply(self, **kwargs: Any) -> None:
        """Replace the links; one that leads nowhere is left for Sphinx to warn of."""
        folder = (ROOT / self.env.docname).parent
        for kind in (addnodes.download_reference, addnodes.pending_xref):
            for node in list(self.document.findall(kind)):
                target = (folder / node["reftarget"]).resolve()
                if node.get("refdomain") or not target.exists() or not target.is_relative_to(ROOT):
                    continue
                page = source_page(target)
                link = nodes.reference("", "", internal=True, repository=str(target.relative_to(ROOT)))
                link["refuri"] = quote(f"{'../' * self.env.docname.count('/')}{page}.html")
                link += node.children
                node.replace_self(link)


def source_page(path: Path) -> str:
    """The name of the page that shows a file, or what is in a folder."""
    name = f"source/{path.relative_to(ROOT)}"
    return f"{name}/index" if path.is_dir() else name


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The pages that show files and folders which others link to."""
    doctrees = (app.env.get_doctree(name) for name in app.env.found_docs)
    links = (link for tree in doctrees for link in tree.findall(nodes.reference) if "repository" in link)
    linked = {ROOT / link["repository"] for link in links}
    listed = {folder: sorted(filter(_is_shown, folder.rglob("*"))) for folder in linked if folder.is_dir()}
    for path in sorted(linked.union(*listed.values())):
        title = html.escape(str(path.relative_to(ROOT)))
        if path.is_dir():
            up = "../" * source_page(path).count("/")
            items = "".join(
                f'<li><a href="{up}{quote(source_page(file))}.html">{html.escape(str(file.relative_to(path)))}</a></li>'
                for file in listed[path]
            )
            body = f"<ul>{items}</ul>"
        else:
            body = highlight(path.read_text(), _lexer(path), HtmlFormatter(wrapcode=True))
        yield source_page(path), {"title": title, "body": f"<h1><code>{title}</code></h1>{body}"}, "page.html"


def _is_shown(path: Path) -> bool:
    """Whether it is a file that can be shown as text."""
    if not path.is_file() or "__pycache__" in path.parts:
        return False
    return b"\0" not in path.read_bytes()


def _lexer(path: Path) -> Any:
    try:
        return get_lexer_for_filename(path.name.removesuffix(".j2"))
    except ClassNotFound:
        return TextLexer()


def add_front_door(app: Sphinx, error: Exception | None) -> None:
    """Let the site's own address lead to its first page."""
    if not error:
        (Path(app.outdir) / "index.html").write_text(f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n')


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.add_transform(RepositoryLinks)
    app.connect("source-read", add_menu)
    app.connect("html-collect-pages", source_pages)
    app.connect("build-finished", add_front_door)
