"""The signal that a site bills and monitors with."""

from django.dispatch import Signal

# Sent once a call, whatever its outcome, with: alias, driver, model, usage, finish_reason, outcome
# ("complete", "interrupted" or "failed"), error, duration and time_to_first_chunk (seconds), attempts,
# request_id, streamed, and the context that the caller passed. A call that is refused before any I/O
# never began.
call_finished = Signal()
