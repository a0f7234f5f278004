"""Configuration of Sphinx: Markdown by MyST, the theme Furo, docstrings by autodoc."""

from importlib.metadata import version as version_of

project = "aiowsgi"
author = "The aiowsgi contributors"
copyright = "the aiowsgi contributors, MIT License"  # noqa: A001 - the name that Sphinx reads
version = release = version_of("aiowsgi")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx"]
exclude_patterns = []
nitpicky = False

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True
# The inventory is fetched only if it is asked for: the build must not need the network.
intersphinx_mapping = {}

html_theme = "furo"
html_title = "aiowsgi"
html_copy_source = False
