"""A real model inside the process."""
