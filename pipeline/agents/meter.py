"""
What a conversation took, and whether its next ask fits into what is left.

What an ask will take nobody knows before.  It is what the last one was asked, whose
talk it repeats, with what has been said since, and the longest answer; the ask after
it, which may have to be the last, will have grown as much as any has.  What does not
fit is not asked.
"""

from __future__ import annotations

from decimal import Decimal

from pipeline.agents.agent import Budget, Spending
from pipeline.messages import Beside, ModelAnswer

BYTES_A_TOKEN = 3  # of what is new; most texts have more, and are counted as dearer
BYTES_AT_MOST = 4  # before anything is known: longer by this count is surely too long


class Meter:
    """
    Counts what one conversation takes.

    Args:
        max_tokens: Of an answer; 0: nobody says.
    """

    def __init__(self, budget: Budget, max_tokens: int = 0) -> None:
        self.spent = Spending()
        self._budget = budget
        self._size = 0  # bytes of the last ask
        self._asked = 0  # its tokens
        self._longest = max_tokens  # of an answer, in tokens
        self._dearest = Decimal(0)
        self._a_token = Decimal(0)
        self._grown = 0  # tokens, at most, from one ask to the next

    def is_last(self, size: int) -> bool:
        """Whether no other ask would fit after one of so many bytes."""
        after = self._ahead(size) + self._grown
        return self.spent.asks + 1 >= self._budget.asks or not self._fits(size, after)

    def fits(self, size: int) -> bool:
        """Whether an ask of so many bytes does."""
        return self._fits(size, 0)

    def took(self, size: int, answer: ModelAnswer) -> None:
        """An ask of so many bytes was answered."""
        if self._size:
            self._grown = max(self._grown, self._new(size))
        usage, tokens = answer.usage, answer.usage.total
        self._size = size
        self._asked = usage.input_tokens + usage.cached_input_tokens
        self._longest = max(self._longest, tokens - self._asked)
        self._dearest = max(self._dearest, answer.cost)
        if tokens:
            self._a_token = max(self._a_token, answer.cost / tokens)
        self.spent.asks += 1
        self.spent.tokens += tokens
        self.spent.cost += answer.cost

    def took_beside(self, more: Beside) -> None:
        """Answers that were paid for, and were none; an ask is one with its answer."""
        self.spent.tokens += more.tokens
        self.spent.cost += more.cost

    def at_most(self, size: int, longest: int) -> tuple[int, int]:
        """
        Tokens that an ask of so many bytes takes at most, and the one after it.

        Args:
            longest: The most tokens of an answer.
        """
        longest = max(longest, self._longest)
        asked = self._asked + self._new(size)  # of the first: all of it is new
        return asked + longest, asked + self._grown + longest

    def _fits(self, size: int, after: int) -> bool:
        """`after`: tokens that must be left."""
        ahead = self._ahead(size) + after
        asks = 2 if after else 1
        cost = max(asks * self._dearest, ahead * self._a_token)
        budget, spent = self._budget, self.spent
        return spent.tokens + ahead <= budget.tokens and (
            budget.cost is None or spent.cost + cost <= budget.cost
        )

    def _ahead(self, size: int) -> int:
        """Tokens that an ask of so many bytes may take."""
        if not self.spent.asks:
            return size // BYTES_AT_MOST + self._longest
        return self._asked + self._new(size) + self._longest

    def _new(self, size: int) -> int:
        return max(0, size - self._size) // BYTES_A_TOKEN
