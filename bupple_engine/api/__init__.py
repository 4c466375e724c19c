"""The HTTP API: the same call in three dialects, closed until the site opens it."""

from .asked import ChatCall

__all__ = ["ChatCall"]
