"""Settings of the site. ``make site`` gathers the pages first: see ``make_site.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import pocourse

project = "pocourse"
author = "The pocourse maintainers"
copyright = "the pocourse maintainers, Apache-2.0"
release = pocourse.__version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.viewcode", "api", "katex", "notebook_pages"]
nitpicky = True
# Types of other packages, and the words that shape annotations are made of, have no page here.
nitpick_ignore_regex = [("py:.*", r"(?!pocourse\.).*")]
maximum_signature_line_length = 72
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
smartquotes = False

# Notebooks are shown with the outputs they were committed with.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_render_markdown_format = "myst"  # as prose is read: plain CommonMark has no tables
myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3
myst_update_mathjax = False

html_math_renderer = "katex"
html_theme = "sphinx_book_theme"
html_title = "pocourse"
html_logo = html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_domain_indices = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "pocourse", "alt_text": "A clipped line and a parabola with its top at the edge: home"},
    "navbar_persistent": [],
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "use_fullscreen_button": False,
    "use_issues_button": False,
    "use_download_button": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
