"""Serve the example under ASGI: `uvicorn example_project.asgi:application`."""

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

from bupple_engine.http import limit_bodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

# An example has no web server in front of it that would serve the static files, or bound a body.
application = limit_bodies(ASGIStaticFilesHandler(get_asgi_application()))
