"""The signal that a site bills and monitors with."""

from django.dispatch import Signal

# Sent once a call, whatever its outcome, with: id (a UUID), parent (the run's), alias, driver, model, usage,
# finish_reason, outcome ("complete", "interrupted" or "failed"), error, duration and time_to_first_chunk
# (seconds), attempts (their number), request_id, streamed, the context that the caller passed, and result,
# the Outcome. A call that is refused before any I/O never began.
call_finished = Signal()
