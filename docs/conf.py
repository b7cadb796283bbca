"""How the documentation is built, without a network: ``sphinx-build -W docs docs/build/html``."""

import sys
from pathlib import Path

import confsim

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "confsim"
author = "The confsim developers"
copyright = "The confsim developers"  # noqa: A001 - Sphinx's name for it
version = release = confsim.__version__

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "myst_parser",
    "executed",
    "columns",
    "command_reference",
    "formulas",
    "landmarks",
]
exclude_patterns = ["build", "_generated"]
suppress_warnings = ["toc.empty_glob"]  # pages that may be there
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

smartquotes = False
highlight_language = "none"

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"confsim {release}"
html_static_path = ["_static"]
html_css_files = ["confsim.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#1f5c99", "color-brand-content": "#1f5c99"},
    "dark_css_variables": {"color-brand-primary": "#8ab8e6", "color-brand-content": "#8ab8e6"},
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
