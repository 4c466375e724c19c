"""One call without I/O: bytes in, chunks out; its clocks, its attempts and its end."""
