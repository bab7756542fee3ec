"""A cheap in-memory stand-in for SQS and DynamoDB, so that a benchmark measures the daemon and not the server.

One process, one event loop, loopback only. A call runs to its end before the next one starts, so every call is atomic.
It checks no signatures and no reserved words, keeps nothing on disk, never throttles, never delivers twice and never
deletes by TTL: it is for speed, not for finding faults.

Its own endpoints, for the one who measures:

- `GET /_counts`: requests by operation, entries in batches, errors by code, its own CPU seconds; `POST /_reset` begins
  anew.
- `POST /_fill?queue=NAME&n=N`: lays N messages on the queue. The body is the template; `@N@` in it becomes the
  message's number. `groups=K` deals them to K groups of a FIFO queue.
- `GET /_depth?queue=NAME`: how many messages are visible, in flight and delayed.
"""
