"""Documentation: plain Markdown in this folder, and the reference from docstrings. `make docs` builds it."""

import sys
from pathlib import Path

import heldout_torch

sys.path.insert(0, str(Path(__file__).parent))
import commands

project = "heldout_torch"
copyright = author = "heldout_torch contributors"
release = heldout_torch.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3  # so that page.md#heading is a link that is checked

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
autoclass_content = "class"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"  # docstrings write `name`, as Markdown does
add_module_names = False
smartquotes = False  # `--option` in a docstring or a help text stays what can be typed

html_theme = "pydata_sphinx_theme"
html_title = "heldout_torch"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
templates_path = ["_templates"]
html_sidebars = {"**": ["contents.html"]}  # all pages beside each page; the bar at the top has none
html_theme_options = {"navbar_center": [], "secondary_sidebar_items": ["page-toc"]}


def setup(app):
    """Have the page of the command line filled as it is read."""
    app.connect("source-read", lambda app, page, source: source.__setitem__(0, commands.fill(source[0])))
