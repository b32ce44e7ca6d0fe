"""Sphinx: `make docs`, or `sphinx-build -W --keep-going -b html docs build/docs` with `pip install -e '.[docs]'`.

Nothing is fetched while building or reading: no inventories of other projects, no fonts or scripts from elsewhere.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import metst_edge

project = "metst_edge"
author = "the metst_edge authors"
copyright = author
version = release = metst_edge.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
default_role = "code"  # docstrings name things between single backticks

# A reference that leads nowhere is an error; names of other projects have no page here.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(numpy|np|npt|collections|pathlib|types|os|argparse|datetime)\..*"),
    ("py:.*", r"metst_edge\.(bundle|manifest)\.(StateEntry|TensorEntry|Stored\w*)"),  # of a bundle's inside
    ("py:.*", r"typing\.Literal\[.*"),  # taken apart in a signature that holds a <factory>
    ("py:.*", r".*\s.*"),  # no name, but words of a sentence that stand before a colon
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are listed with their class, not as members of their own

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"metst_edge {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"**": ["site-nav"]}
html_theme_options = {
    "navbar_center": [],  # the sidebar lists all pages
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
