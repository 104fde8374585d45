"""The site of the documentation: built strictly, complete by itself, with links that lead somewhere."""

import html.parser
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pages
import pytest

pytest.importorskip("mkdocs", reason='pip install ".[docs]"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; any warning of MkDocs, mkdocstrings or griffe is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=pages.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class _Page(html.parser.HTMLParser):
    """Collects what a page refers to, what it loads, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors, self.formulas = [], [], set(), 0
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.formulas += tag == "math"
        self.anchors |= {attrs.get("id"), attrs.get("name")} - {None}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        is_loaded = tag in ("script", "img", "iframe") or (tag == "link" and attrs.get("rel") != "canonical")
        self.loaded += [attrs[key] for key in ("src", "href") if is_loaded and attrs.get(key)]


@pytest.fixture(scope="module")
def built(site):
    return {path: _Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_page_of_the_docs_is_built(site, built):
    expected = {path.relative_to(pages.DOCS).with_suffix(".html") for path in pages.DOCS.rglob("*.md")}
    assert {path.relative_to(site) for path in built} == expected
    assert not list(site.rglob("*.py"))


def test_nothing_is_loaded_from_elsewhere(built):
    loaded = {url for page in built.values() for url in page.loaded}
    assert loaded
    assert [url for url in loaded if urllib.parse.urlparse(url).netloc] == []


def test_style_sheets_load_no_fonts_from_elsewhere(site):
    text = "".join(path.read_text() for path in site.rglob("*.css"))
    assert "--md-default-fg-color" in text
    assert re.findall(r"url\(['\"]?https?:", text) == []


def test_links_inside_the_site_lead_to_pages_and_anchors(built):
    for path, page in built.items():
        for link in page.links:
            url = urllib.parse.urlparse(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            assert target.exists(), f"{path.name}: {link}"
            if url.fragment and target in built:
                assert urllib.parse.unquote(url.fragment) in built[target].anchors, f"{path.name}: {link}"


def test_formulas_are_mathml(site, built):
    count = (pages.DOCS / "concepts.md").read_text().count("```math\n")
    assert built[site / "concepts.html"].formulas == count > 5
    text = (site / "concepts.html").read_text()
    assert "\\sum" not in text


def test_the_api_has_what_the_package_exports(site):
    import pane_keras

    text = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    modules = {"errors", "pieces", "plotting", "testing"}
    names = set(pane_keras.__all__) - modules - {"__version__"}
    missing = [name for name in names if not re.search(rf'id="pane_keras\.[\w.]*\b{name}"', text)]
    assert missing == []


def test_the_api_documents_what_pieces_export(site):
    from pane_keras import pieces

    text = (site / "api" / "rules.html").read_text()
    assert [name for name in pieces.__all__ if not re.search(rf'id="pane_keras\.\w+\.{name}"', text)] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_pages_beside_the_site_lead_to_files(name):
    text = (pages.ROOT / name).read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if link and not (pages.ROOT / pathlib.PurePosixPath(link)).exists()] == []


def test_pages_hold_no_long_dashes():
    texts = {path: path.read_text() for path in [*pages.DOCS.rglob("*.md"), *pages.ROOT.glob("*.md")]}
    assert [path.name for path, text in texts.items() if "\N{EM DASH}" in text] == []
