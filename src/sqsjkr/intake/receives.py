"""How the requests for messages went, for those who watch: plain numbers."""

from __future__ import annotations

from sqsjkr import clock


class Receives:
    """Counts answers and failures, and remembers when the loop that receives was last seen to go on."""

    def __init__(self) -> None:
        self.results = {"messages": 0, "empty": 0, "error": 0}
        self.messages = 0
        self.answered_at: float | None = None
        """When the queue last answered, on ``clock.now``."""
        self.came_round = clock.now()
        """When the loop last looked whether to receive, on ``clock.now``; a failure, a pause or full slots keep no loop
        from that, so one that has not looked for long never will."""

    def answered(self, messages: int) -> None:
        """Count an answer with so many messages."""
        self.results["messages" if messages else "empty"] += 1
        self.messages += messages
        self.answered_at = clock.now()

    def failed(self) -> None:
        """Count a failure."""
        self.results["error"] += 1
