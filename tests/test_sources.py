"""What a docstring or a comment names as its source can be opened: a page of ours, or a vendor's URL."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from tests.sources import ROOT, Passage, passages, urls


def test_a_source_is_a_url_or_a_page() -> None:
    sources = [each for each in passages() if re.search(r"\bSources?: ", each.text)]
    assert len(sources) > 10
    for passage in sources:
        named = Passage(passage.where, passage.text.partition("Source")[2])
        assert named.urls or named.pages, f"{passage.where}: where is it to be read?"


def test_every_url_of_a_source_is_well_formed() -> None:
    assert len(urls()) > 5
    for url in urls():
        parts = urlsplit(url)
        assert parts.scheme == "https", url
        assert re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc), url
        assert parts.path.strip("/") or parts.fragment, f"{url} is a whole site"


def test_every_page_that_is_named_is_there() -> None:
    """A note that lies outside of the repository can't be opened by who reads the code."""
    named = {(page, passage.where) for passage in passages() for page in passage.pages}
    assert named, "the pages that docstrings name are not found any more"
    assert {(page, where) for page, where in named if not (ROOT / page).is_file()} == set()
