"""The repository's files in the site: pages that are elsewhere, and links that lead out of `docs`.

- A page with a line that ends with `<!-- site: ../CHANGELOG.md -->` is that file in the site, so
  that a text is written once. On the repository's web page such a line is what stands before the
  comment: a link.
- A link that is called as its file, `[rooms.md](rooms.md)`, has the title of the page in the site.
- A link to a file that is a page in this way leads to the page. A link to any other file or folder
  leads to the repository on the web (DOCS_REPOSITORY); where that is not known, the site has a
  page that shows the file, or all files of the folder.
"""

from __future__ import annotations

import html
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent
SCHEME = "repository:"
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)\)")
STUB = re.compile(r"^.*<!-- site: (\S+) -->\n", re.M)
LANGUAGES = {
    ".py": "python",
    ".js": "javascript",
    ".html": "html",
    ".css": "css",
    ".md": "text",
    ".conf": "nginx",
    ".service": "ini",
    ".socket": "ini",
}


@lru_cache
def homes() -> dict[Path, str]:
    """The files beyond `docs` that are pages: with these pages' names."""
    result = {ROOT / "README.md": "index"}
    for path in DOCS.glob("*.md"):
        for found in STUB.finditer(path.read_text(encoding="utf-8")):
            result[(path.parent / found[1]).resolve()] = path.stem
    return result


def read_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put in what is elsewhere, and mark the links that lead out of `docs`."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".md":
        return
    text = source[0]
    if found := STUB.search(text):
        origin = (path.parent / found[1]).resolve()
        app.env.note_dependency(str(origin))
        text = moved(origin.read_text(encoding="utf-8"), origin, path)
    source[0] = LINK.sub(lambda match: _marked(match, path), text)


def moved(text: str, origin: Path, home: Path) -> str:
    """A text whose relative links lead from another page to where they led."""

    def rebased(match: re.Match[str]) -> str:
        target, mark, fragment = match[2].partition("#")
        if "://" in target or not target:
            target = target or (os.path.relpath(origin, home.parent) if mark else "")
        else:
            target = os.path.relpath(origin.parent / target, home.parent)
        return f"{match[1]}{target}{mark}{fragment})"

    return LINK.sub(rebased, text)


def _marked(match: re.Match[str], page: Path) -> str:
    target, mark, fragment = match[2].partition("#")
    if not target or "://" in target:
        return match[0]
    path = (page.parent / target).resolve()
    if not path.is_relative_to(ROOT):
        raise ValueError(f"{page}: {target} leads out of the repository")
    if page_of := homes().get(path):
        return _entitled(match, f"{page_of}.md{mark}{fragment}")
    if path.is_relative_to(DOCS):
        return _entitled(match, match[2])
    if not path.exists():
        raise ValueError(f"{page}: there is no {target}")
    return f"{match[1]}{SCHEME}{path.relative_to(ROOT).as_posix()}{mark}{fragment})"


def _entitled(match: re.Match[str], target: str) -> str:
    """A link to a page; the title's where its text is the file's name."""
    text = match[1].removeprefix("[").removesuffix("](")
    named = Path(text).name == Path(match[2].partition("#")[0]).name
    return f"{'[](' if named else match[1]}{target})"


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Let the marked links lead somewhere."""
    for node in doctree.findall(nodes.reference):
        uri = node.get("refuri", "")
        if uri.startswith(SCHEME):
            name, mark, fragment = uri.removeprefix(SCHEME).partition("#")
            node["refuri"] = _address(app, docname, name) + mark + fragment


def _address(app: Sphinx, docname: str, name: str) -> str:
    if url := app.config.repository_url:
        return f"{url}/{'tree' if (ROOT / name).is_dir() else 'blob'}/main/{name}"
    shown(app).add(name)
    return app.builder.get_relative_uri(docname, f"source/{name}")


def shown(app: Sphinx) -> set[str]:
    """The files and folders that the site has to show."""
    found: set[str] = app.env.__dict__.setdefault("shown_files", set())
    return found


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file and folder that is linked."""
    for name in sorted(shown(app)):
        path = ROOT / name
        files = [path] if path.is_file() else sorted(filter(_is_shown, path.rglob("*")))
        body = [f"<h1><code>{html.escape(name)}</code></h1>"]
        for file in files:
            if len(files) > 1:
                body.append(
                    f"<h2><code>{html.escape(file.relative_to(path).as_posix())}</code></h2>"
                )
            body.append(
                app.builder.highlighter.highlight_block(
                    file.read_text(encoding="utf-8"), LANGUAGES.get(file.suffix, "text")
                )
            )
        yield f"source/{name}", {"title": name, "body": "\n".join(body)}, "page.html"


def _is_shown(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".pyc", ".so", ".svg", ".png")


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.add_config_value("repository_url", "", "env")
    app.add_lexer("haproxy", TextLexer)  # Pygments knows none
    app.connect("source-read", read_source)
    app.connect("doctree-resolved", resolve)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
