"""What turns red by the calendar or by another's server, and so is no part of the tests: `tox -e nightly`."""

from __future__ import annotations

from datetime import date

import pytest
import requests

from bupple_engine.wires.facts import CHECKED
from tests.sources import urls

MAX_DAYS = 120


def test_the_facts_about_models_and_services_are_young() -> None:
    days = (date.today() - date.fromisoformat(CHECKED)).days
    assert days <= MAX_DAYS, (
        f"wires/facts.py and wires/services.py were checked {days} days ago: check them against the vendors' "
        "pages, and set CHECKED to today"
    )


@pytest.mark.parametrize("url", urls())
def test_a_source_can_be_opened(url: str) -> None:
    response = requests.get(url, timeout=30, headers={"User-Agent": "bupple_engine's check of its sources"})
    # Some vendors refuse whatever is no browser: that says nothing of the page.
    assert response.status_code < 400 or response.status_code in (403, 429), response.status_code
