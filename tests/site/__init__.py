"""The site that the tests of real servers have them run; tests/servers.py starts it."""
