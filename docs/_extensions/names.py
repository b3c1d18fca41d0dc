"""What the names in docstrings lead to.

- A name between single backticks is code, and a link where the reference, or Python's own, has it.
- Docstrings are prose and types are in signatures: the first line of a property's docstring, and of
  what is returned, is a sentence, though it may have a colon. What is indented before the first
  section is code. The name of a page, `docs/rooms.md`, leads to it.
- A type is written as the source has it, without the path of its module. A public one leads to its
  place in the reference. One that is none has its meaning in `SHORT`, or is refused by the build:
  whoever reads the reference could look for it nowhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.ext.intersphinx import resolve_reference_in_inventory

if TYPE_CHECKING:
    from docutils.parsers.rst.states import Inliner
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

MODULES = ("scriptling_ws", "scriptling_ws.runtime", "scriptling_ws.wsgi", "scriptling_ws.asgi")
PYTHON = ("", "collections.abc.", "typing.", "types.")
# Types that annotations use, and that are no names of the reference: they stay words.
SHORT = {
    *("_Function", "_ListHandler", "_BytesHandler", "_Utf8Handler", "Item"),
    *("Binary_co", "Text_co", "TypeIs", "Cookie"),
}
NOTHING = "\\ "  # reStructuredText's word for it
PAGE = re.compile(r"\bdocs/([\w-]+)\.md\b")
SECTION = re.compile(r"[A-Z][a-z]+:")


def named(
    name: str, rawtext: str, text: str, line: int, inliner: Inliner, *_: object
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """The role of single backticks."""
    env = inliner.document.settings.env
    plain = text.replace("\x00", "\\")
    content = nodes.literal(rawtext, plain, classes=["xref", "py"])
    if not plain.replace(".", "").replace("_", "").isalnum():
        return [nodes.literal(rawtext, plain)], []
    reference = pending_xref(
        rawtext, content, refdomain="py", reftype="obj", reftarget=plain, refexplicit=False
    )
    reference["refdoc"] = env.docname
    reference["soft"] = True
    reference["py:module"] = env.ref_context.get("py:module")
    reference["py:class"] = env.ref_context.get("py:class")
    return [reference], []


def prepare(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Make a docstring what napoleon takes for the same."""
    result = [NOTHING] if what in ("property", "attribute", "data") else []
    prose, in_code = True, False
    for before, line in zip(["", *lines], lines, strict=False):
        if prose and line.startswith("    ") and not before and not in_code:
            result += ["::", ""]
        in_code = line.startswith("    ") or (in_code and not line)
        prose = prose and SECTION.fullmatch(line) is None
        result.append(PAGE.sub(r":doc:`/\1`", line))
        if line in ("Returns:", "Yields:"):
            result.append(f"    {NOTHING}")
    lines[:] = result


def find(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Node | None:
    """Where a name is that Sphinx has not found."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removeprefix("~")
    soft, short = node.get("soft"), target.rpartition(".")[2]
    for name in [target] if soft else [target, short]:
        found = _in_reference(app, env, node, name, content)
        # `send` is no name of Python's own: those have a module or a capital.
        if found is None and not (soft and "." not in name and name.islower()):
            found = _in_python(env, node, name, content)
        if found is not None:
            return found
    return content if soft or short in SHORT else None


def _in_reference(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, name: str, content: nodes.Element
) -> nodes.Node | None:
    objects = env.domains.python_domain.objects
    for module in MODULES:
        if found := objects.get(full := f"{module}.{name}"):
            uri = app.builder.get_relative_uri(node["refdoc"], found.docname)
            options = {"internal": True, "refuri": f"{uri}#{found.node_id}", "reftitle": full}
            return nodes.reference("", "", content, **options)
    return None


def _in_python(
    env: BuildEnvironment, node: pending_xref, name: str, content: nodes.Element
) -> nodes.Node | None:
    for prefix in PYTHON:
        tried = node.copy()
        tried["reftarget"] = prefix + name
        tried["reftype"] = "obj"
        if (found := resolve_reference_in_inventory(env, "python", tried, content)) is not None:
            return found
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.add_role("named", named)
    app.connect("autodoc-process-docstring", prepare, priority=400)  # before napoleon's
    app.connect("missing-reference", find)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
