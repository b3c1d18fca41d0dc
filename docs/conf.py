"""The site of the documentation: `make docs` builds it, with warnings as errors.

Rules:

- The pages are Markdown, and read well on the repository's own web page too: links are relative
  paths, and those that lead out of `docs` are the site's by `_extensions/repository.py`.
- The reference is the docstrings. What their types and names lead to: `_extensions/names.py`.
- A build needs no network: the names of Python's own documentation are in `_inventories` (those of
  3.11, as its objects.inv has them; a newer one may take its place).
"""

import importlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent / "src")]

project = "scriptling-ws"
copyright = "2026, the scriptling-ws authors"  # noqa: A001 - the name that Sphinx gives it
version = release = importlib.import_module("scriptling_ws").__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "names",
    "repository",
]
root_doc = "index"
exclude_patterns = ["_*"]
nitpicky = True
smartquotes = False  # what stands between quotes is often code

# -- Markdown --------------------------------------------------------------------

myst_heading_anchors = 4  # as on the repository's web page
myst_url_schemes = {"http": None, "https": None, "repository": None}
suppress_warnings = ["myst.header"]  # a page's part may begin at a lower heading

# -- the reference ---------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Attributes", "params_style")]
default_role = "named"
python_maximum_signature_line_length = 80
intersphinx_mapping = {"python": ("https://docs.python.org/3/", "_inventories/python.inv")}
intersphinx_disabled_reftypes = ["*"]  # a page of Python's is linked by its URL

# -- the look --------------------------------------------------------------------

html_theme = "furo"
html_title = f"scriptling-ws {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
# Where the repository is on the web. The workflow knows; elsewhere the site shows its files itself.
repository_url = os.environ.get("DOCS_REPOSITORY", "").rstrip("/")
html_theme_options = (
    {
        "source_repository": f"{repository_url}/",
        "source_branch": "main",
        "source_directory": "docs/",
    }
    if repository_url
    else {}
)
copybutton_exclude = ".linenos, .gp, .go"

# -- `make docs-links` -----------------------------------------------------------

linkcheck_timeout = 20
linkcheck_anchors = False
linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1|[\w.]*example(\.com)?)[:/]"]
