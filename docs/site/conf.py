# Settings of the site: Sphinx reads the pages as CommonMark (MyST) and dresses them by furo; scripts/site.sh runs it.
import pathlib
import re

project = html_title = "misa-prof"
extensions = ["myst_parser"]
root_doc = "index"

html_theme = "furo"
html_static_path = [str(pathlib.Path(__file__).parent / "static")]
html_css_files = ["site.css"]
# The dark ground is that of the drawings.
html_theme_options = {
    "dark_css_variables": {"color-background-primary": "#0d1117", "color-background-secondary": "#151b23"},
}
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = html_use_index = False
# A page that was opened from a disk may not read another one, where these lines would come from.
html_show_search_summary = False

myst_heading_anchors = 6  # as code hosts make them
highlight_language = "none"  # blocks without a language are commands, formulas and output alike
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
smartquotes = False


def mended(page):
    """A page of the theme's templates with what keyboards and screen readers need besides (axe-core names it)."""
    page = page.replace('<p class="caption" role="heading">', '<p class="caption" role="heading" aria-level="2">')
    page = page.replace('<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="Pages">')
    page = page.replace('<aside class="toc-drawer', '<aside aria-label="This page" class="toc-drawer')
    page = page.replace('<div id="search-results">', '<h1>Search</h1>\n<div id="search-results">')
    # The arrow keys reach what is too wide for the page.
    page = page.replace("<pre>", '<pre tabindex="0">')
    page = page.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
    empty = r'<th class="head">(?:<p></p>)?</th>'
    page = re.sub(rf"<thead>\s*<tr[^>]*>(?:\s*{empty})+\s*</tr>\s*</thead>", "", page)
    return re.sub(empty, "<td></td>", page)


def mend(application, failure):
    for page in pathlib.Path(application.outdir).rglob("*.html") if failure is None else ():
        page.write_text(mended(page.read_text()))


def setup(application):
    application.connect("build-finished", mend)
