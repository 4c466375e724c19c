"""Serve the example under WSGI: `gunicorn --threads 8 example_project.wsgi`."""

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

# An example has no web server in front of it that would serve the static files.
application = StaticFilesHandler(get_wsgi_application())
