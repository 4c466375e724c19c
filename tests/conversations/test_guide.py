"""The views of docs/conversations.md, run for a user, over the database that they are written for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import RequestFactory

from bupple_engine import memory
from bupple_engine.conversations.stores.base import Store
from bupple_engine.types import Owner

GUIDE = Path(__file__).parent.parent.parent / "docs" / "conversations.md"


@pytest.fixture
def guide(keep: Callable[..., Store], owner: Owner) -> dict[str, Any]:
    """Give what the guide's snippets define."""
    keep("sqlite")
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(snippet, names)  # noqa: S102 - our own documentation
    return names


class User(tuple[str, str]):
    is_authenticated = True


def test_the_guide_does_what_it_says(
    guide: dict[str, Any], owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    request: Any = RequestFactory().post("/", {"question": "Hello"})
    request.user = User(owner)
    assert b"Hello" in b"".join(guide["ask"](request))
    guide["show_latest"](owner)
    assert capsys.readouterr().out == "complete | Hello | Hello\n"
    assert guide["follow_up"](owner)["content"] == "What about Tuesday?"
    assert async_to_sync(guide["follow_up_later"])(owner)["content"] == "And Thursday?"
    turns, fresh, mine = guide["show"](request, memory(owner).look().id)  # type: ignore[union-attr]
    assert [turn.question for turn in turns] == [
        "Hello",
        "What about Tuesday?",
        "And Wednesday?",
        "And Thursday?",
    ]
    assert fresh.id is None
    assert [conversation.title for conversation in mine] == ["Hello"]
    reply, attempts = guide["again"](request, turns[-1], "And Friday?")
    assert (reply["content"], len(attempts)) == ("And Friday?", 2)
    guide["show_attempt"](request, turns[-1])
    assert memory(owner).get_turns()[-1].question == "And Thursday?"
    assert [guide["ask_once"](request, "key", "Once?") for _ in (1, 2)] == ["Once?", "Once?"]
    assert guide["import_chat"](owner)[0]["content"] == "You answer for a library."
    assert len(guide["last_three"](iter(turns), None).turns) == 3
    connections.close_all()
