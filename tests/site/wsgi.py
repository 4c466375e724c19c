"""What WSGI servers serve."""

import os

from django.core.wsgi import get_wsgi_application

from bupple_engine.http import end_streams_at_shutdown

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site.settings")
application = get_wsgi_application()
end_streams_at_shutdown()
