"""FIFO queues: one message group, one message at a time, in the queue's order; groups side by side."""

from __future__ import annotations

from collections import deque

from sqsjkr.message import Message


class _Group:
    """A message under way, and what follows it."""

    __slots__ = ("followers", "head")

    def __init__(self, head: Message) -> None:
        self.head = head
        self.followers: deque[Message] = deque()


class GroupOrder:
    """Holds back what follows a message of the same group until that one has left the queue.

    SQS hands out a group's next messages only in one batch or after a delete (AWS: FIFO queue delivery logic), so
    what is held back here is at most a batch.
    """

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    def may_go(self, message: Message) -> bool:
        """True if nothing of the message's group is under way; else it is held back until ``settled``."""
        if message.group is None:
            return True
        group = self._groups.get(message.group)
        if group is None:
            self._groups[message.group] = _Group(message)
            return True
        group.followers.append(message)
        return False

    def settled(self, message: Message) -> Message | None:
        """The message has left the queue: the next of its group, which may go now. Saying so twice changes nothing."""
        group = self._under_way(message)
        if group is None:
            return None
        if group.followers:
            group.head = group.followers.popleft()
            return group.head
        del self._groups[message.group or ""]
        return None

    def returned(self, message: Message) -> list[Message]:
        """The message goes back to the queue: all that was held back behind it, which must go back too."""
        group = self._under_way(message)
        if group is None:
            return []
        del self._groups[message.group or ""]
        return list(group.followers)

    def clear(self) -> list[Message]:
        """Everything that is held back, out."""
        held = [message for group in self._groups.values() for message in group.followers]
        self._groups.clear()
        return held

    def _under_way(self, message: Message) -> _Group | None:
        group = self._groups.get(message.group) if message.group is not None else None
        return group if group is not None and group.head is message else None
