"""What is wrong with a conversation.

Http404 (Django's), LookupError
└── ConversationNotFoundError

EngineError
└── ConversationBusyError
    └── DuplicateTurnError
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404

from bupple_engine.exceptions import EngineError
from bupple_engine.http.problems import tell_clients

if TYPE_CHECKING:
    from .values import Turn


class ConversationNotFoundError(Http404, LookupError):
    """The owner has no such conversation or turn; whose it is otherwise is never said.

    In any Django view it is a 404; elsewhere `except LookupError` catches it.
    """


class ConversationBusyError(EngineError):
    """Another turn of the conversation runs; `turn` is that one."""

    turn: Turn | None

    def __init__(self, message: str, turn: Turn | None = None) -> None:
        super().__init__(message, code=409, retry_after=1)
        self.turn = turn


class DuplicateTurnError(ConversationBusyError):
    """The key has been used in this conversation; `turn` is the one that has it."""


tell_clients(ConversationBusyError, 409, "Another question of this conversation is being answered.")
tell_clients(DuplicateTurnError, 409, "This question has been asked before.")
