"""The values that calls are made of, without I/O: messages, options, requests, answers, events."""
