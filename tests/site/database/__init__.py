"""Django's backend for SQLite, counting its connections."""
