"""Conversations that are kept: an app of its own, for who adds it to INSTALLED_APPS."""
