"""Pure: the breaker that holds opens after too many unknown outcomes or rejections.

Precedes: execution denies opens while it is tripped. Follows: outcomes. Unknown outcomes release it once resolved;
rejections hold it until an operator resumes the terminal.
"""

from dataclasses import dataclass, field

WINDOW_MS = 60_000


@dataclass(slots=True)
class Breaker:
    """`max_unknown` at once, `max_rejections` within a minute; 0 = off."""

    max_unknown: int
    max_rejections: int
    _rejected_at: list[float] = field(default_factory=list)
    _unknown: bool = False
    _rejections: bool = False

    def unknown(self, count: int) -> None:
        """How many outcomes are unknown now."""
        if count == 0:
            self._unknown = False
        elif self.max_unknown and count >= self.max_unknown:
            self._unknown = True

    def rejected(self, now_ms: float) -> None:
        self._rejected_at = [at for at in self._rejected_at if now_ms - at < WINDOW_MS]
        self._rejected_at.append(now_ms)
        if self.max_rejections and len(self._rejected_at) >= self.max_rejections:
            self._rejections = True

    def trip(self) -> None:
        """It was tripped by rejections before a restart: an executor that was started again is no operator."""
        self._rejections = True

    def resume(self) -> None:
        """An operator's act."""
        self._rejected_at.clear()
        self._rejections = False

    @property
    def until_resumed(self) -> bool:
        """Whether only an operator releases it."""
        return self._rejections

    @property
    def reason(self) -> str:
        """Why opens are held; empty when they are not."""
        if self._unknown:
            return f"The breaker holds opens: {self.max_unknown} orders or more have an unknown outcome."
        if self._rejections:
            return (
                f"The breaker holds opens: {self.max_rejections} rejections within a minute."
                " Resume the terminal in the admin once the cause is mended."
            )
        return ""
