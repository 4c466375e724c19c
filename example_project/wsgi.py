"""Serve the example under WSGI: `gunicorn --threads 8 example_project.wsgi`."""

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

from bupple_engine.http import end_streams_at_shutdown

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

# An example has no web server in front of it that would serve the static files.
application = StaticFilesHandler(get_wsgi_application())

end_streams_at_shutdown()  # a worker that is told to end would wait for them
