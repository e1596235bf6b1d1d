"""Configuration of the documentation site: `make docs` builds it into build/site.

The sources are the Markdown pages of the whole repository, so that links between them lead to the
same places on the site and on GitHub.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mlx_gmvae  # noqa: E402

project = "mlx_gmvae"
author = "the mlx_gmvae authors"
version = release = mlx_gmvae.__version__

root_doc = "docs/index"
include_patterns = [
    "docs/*.md", "docs/**/*.md", "CHANGELOG.md", "CONTRIBUTING.md",
    "pretrained/README.md", "benchmarks/NOTES.md", "benchmarks/notes/*.md",
]  # fmt: skip
exclude_patterns = ["build", "dist", ".venv", "results", "tests"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
myst_heading_anchors = 4  # as GitHub makes them
myst_enable_extensions = ["html_image"]

default_role = "code"  # of names in the docstrings
smartquotes = False  # two hyphens begin a flag

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # the docstrings name the types
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = f"mlx_gmvae {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "mlx_gmvae"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
}
ALONE = ("docs/index", "docs/getting_started", "docs/MODELS", "CONTRIBUTING", "CHANGELOG")
html_sidebars: dict[str, list[str]] = {
    page: [] for page in ALONE
}  # pages without others in their section
copyright = "the mlx_gmvae authors, MIT licence"

# GitHub chooses between two pictures by the reader's colour scheme, the theme by its own switch.
PICTURE = re.compile(r'<picture><source [^>]*srcset="([^"]+)"><img src="([^"]+)"([^>]*)></picture>')


ANCHOR = re.compile(r'^<a id="([\w-]+)"></a>$', re.MULTILINE)


LINK = re.compile(r"\[([^\]]+)\]\(([^)#:]+)\)")
NOTES = "benchmarks/NOTES"
NOTES_TREE = "\n```{toctree}\n:hidden:\n:glob:\n\nnotes/*\n```\n"


def adapt(app, name, source):
    """Turn what GitHub shows into what Sphinx does: pictures, anchors, and links to folders."""
    folder = (ROOT / name).parent
    light_and_dark = r'<img src="\2"\3 class="only-light"> <img src="\1"\3 class="only-dark">'
    text = ANCHOR.sub(r"(\1)=", PICTURE.sub(light_and_dark, source[0]))
    text = LINK.sub(lambda found: found[1] if (folder / found[2]).is_dir() else found[0], text)
    source[0] = text + NOTES_TREE * (name == NOTES)


def redirect(app, exception):
    """Let the top of the site lead to its first page."""
    if exception is None and app.builder.format == "html":
        page = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">'
        page += '<title>mlx_gmvae</title><a href="docs/index.html">mlx_gmvae</a>\n'
        (Path(app.outdir) / "index.html").write_text(page)


def setup(app):
    app.connect("source-read", adapt)
    app.connect("build-finished", redirect)
