"""The same site, whose relays wait for a reader half a second."""

from bupple_engine.http import blocking

from .wsgi import application as application

blocking.ROOM_SECONDS = 0.5
