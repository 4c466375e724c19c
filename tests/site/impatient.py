"""The same site, whose relays wait for a reader half a second."""

from bupple_engine.http import wsgi

from .wsgi import application as application

wsgi.ROOM_SECONDS = 0.5  # type: ignore[attr-defined] # which it has imported
