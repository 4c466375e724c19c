"""A site for the commands that tests run as processes; the drivers come from the test."""

import json
import os

from tests.settings_minimal import *  # noqa: F403

BUPPLE_ENGINE = json.loads(os.environ["TESTS_BUPPLE_ENGINE"])
