"""FIFO queues: one message group, one message at a time, in the queue's order; groups side by side."""

from __future__ import annotations

from collections import deque

from sqsjkr.message import Message


class GroupOrder:
    """Holds back what follows a message of the same group until that one is settled.

    SQS hands out a group's next messages only in one batch or after a delete (AWS: FIFO queue delivery logic), so
    what is held back here is at most a batch.
    """

    def __init__(self) -> None:
        self._followers: dict[str, deque[Message]] = {}

    def may_go(self, message: Message) -> bool:
        """True if nothing of the message's group is under way; else it is held back until ``settled``."""
        if message.group is None:
            return True
        followers = self._followers.get(message.group)
        if followers is None:
            self._followers[message.group] = deque()
            return True
        followers.append(message)
        return False

    def settled(self, message: Message) -> Message | None:
        """The message has left the queue: the next of its group, which may go now."""
        if message.group is None:
            return None
        followers = self._followers.get(message.group)
        if followers:
            return followers.popleft()
        self._followers.pop(message.group, None)
        return None

    def returned(self, message: Message) -> list[Message]:
        """The message goes back to the queue: all that was held back behind it, which must go back too."""
        if message.group is None:
            return []
        return list(self._followers.pop(message.group, ()))

    def clear(self) -> list[Message]:
        """Everything that is held back, out."""
        held = [message for followers in self._followers.values() for message in followers]
        self._followers.clear()
        return held
