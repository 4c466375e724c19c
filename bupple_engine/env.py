"""What a settings file imports to read BUPPLE_ENGINE from environment variables."""

from .conf.env import engine_settings

__all__ = ["engine_settings"]
