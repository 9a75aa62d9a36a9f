"""
Several pools of jailed processes, each with its own size and limits.

Here our own trouble is told from what a call came to: no process can be started, or
the disk of the scratch folders is full, and a parser that cannot write says whatever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline.errors import Trouble, Usage, WaybillError
from pipeline.jail.custom import FileFunction
from pipeline.jail.pool import JailPool, Keeper
from pipeline.threads import in_thread
from pipeline.trouble import Place, look_at, trouble_of

T = TypeVar("T")


class JailPools(Mapping[str, JailPool]):
    """
    Pools of jailed processes by name; "" is the one for whatever names none.

    Also an async context manager that closes them all.

    Args:
        scratch: Where the pools' scratch folders lie.
    """

    def __init__(
        self, pools: Mapping[str, JailPool], *, scratch: Place | None = None
    ) -> None:
        self._pools = dict(pools)
        self._scratch = scratch

    def __repr__(self) -> str:
        return f"<JailPools {self._pools}>"

    def __getitem__(self, name: str) -> JailPool:
        return self._pools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def run(
        self,
        fn: Callable[..., Any] | FileFunction,
        /,
        *,
        timeout_s: float,
        cpu_s: float | None = None,
        pool: str = "",
        owner: Hashable = None,
        **kwargs: Any,
    ) -> Any:
        """`JailPool.run` in the pool of this name; raises `Trouble` as well."""
        calls = self._pool(pool)
        return await self._seen_through(
            calls.run(fn, timeout_s=timeout_s, cpu_s=cpu_s, owner=owner, **kwargs)
        )

    async def run_files(
        self,
        fn: Callable[..., Any] | FileFunction,
        /,
        *,
        timeout_s: float,
        keep: Keeper,
        cpu_s: float | None = None,
        pool: str = "",
        owner: Hashable = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, str]]:
        """`JailPool.run_files` in the pool of this name; raises `Trouble` as well."""
        call = self._pool(pool).run_files(
            fn, timeout_s=timeout_s, cpu_s=cpu_s, keep=keep, owner=owner, **kwargs
        )
        return await self._seen_through(call)

    async def aclose(self) -> None:
        """Close every pool.  Idempotent."""
        for pool in self._pools.values():
            await pool.aclose()

    async def _seen_through(self, call: Awaitable[T]) -> T:
        places = () if self._scratch is None else (self._scratch,)
        try:
            return await call
        except OSError as error:
            raise trouble_of(error, places) or error from error
        except Trouble:
            raise
        except WaybillError as error:
            for place in places:
                trouble = await in_thread(look_at, place)
                if trouble is not None:
                    raise trouble from error
            raise

    def _pool(self, name: str) -> JailPool:
        if name not in self._pools:
            raise Usage(
                f"there is no pool of jailed processes named {name!r}",
                code="NO_SUCH_POOL",
                hint=f"there are: {', '.join(map(repr, self._pools))}",
            )
        return self._pools[name]
