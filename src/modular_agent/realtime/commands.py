"""The commands of one connection on their way: each an owned task, bounded in number, answered when it is done."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from modular_agent.errors import AgentError, Language
from modular_agent.kit.clock import Clock
from modular_agent.realtime.errors import TooManyCommands
from modular_agent.realtime.ports import CommandHandler, Control, Query
from modular_agent.realtime.protocol import answer, error_answer

__all__ = ["Commands"]

_log: Final = logging.getLogger(__name__)


class Commands:
    """Runs controls and queries and hands their answers to `on_answer`.

    `limit` bounds those that are not accepted yet, `max_waiting` those that only wait for their result: many runs
    under way must not keep a client from stopping one.
    """

    def __init__(
        self,
        handler: CommandHandler,
        *,
        on_answer: Callable[[bytes], None],
        clock: Clock,
        limit: int,
        max_waiting: int,
        language: Language,
    ) -> None:
        self._handler = handler
        self._on_answer = on_answer
        self._clock = clock
        self._limit = limit
        self._max_waiting = max_waiting
        self._language: Language = language
        self._undecided: set[asyncio.Task[None]] = set()  # controls that may be half done: not to be cancelled
        self._waiting: set[asyncio.Task[None]] = set()  # queries, and controls that were accepted
        self._queries = 0
        self._closing = False

    def start(self, message: Control | Query) -> None:
        """Begins a command. Raises `TooManyCommands`."""
        if len(self._undecided) + self._queries >= self._limit:
            raise TooManyCommands(limit=self._limit, retry_after=1.0)
        if len(self._waiting) >= self._max_waiting:
            raise TooManyCommands(limit=self._max_waiting, retry_after=1.0)
        loop = asyncio.get_running_loop()
        if isinstance(message, Query):
            self._queries += 1
            task = loop.create_task(self._query(message))
            self._waiting.add(task)
        else:
            task = loop.create_task(self._control(message))
            self._undecided.add(task)
        task.add_done_callback(self._forget)

    async def aclose(self, grace: float) -> None:
        """Lets controls that may be half done finish for `grace` seconds; cancels everything else."""
        self._closing = True
        for task in list(self._waiting):
            task.cancel()
        if self._undecided:
            await asyncio.wait(list(self._undecided), timeout=grace)
        left = [*self._undecided, *self._waiting]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _control(self, command: Control) -> None:
        task = asyncio.current_task()
        assert task is not None

        def accepted(data: Mapping[str, Any]) -> None:
            if task in self._undecided:
                self._undecided.discard(task)
                self._waiting.add(task)
                self._answer("ack", command, data)
                if self._closing:
                    task.cancel()  # it only waits from here on, for an answer that nobody will read

        try:
            self._answer("result", command, await self._handler.control(command, accepted=accepted))
        except AgentError as error:
            self._refuse(command, error)
        except Exception:  # noqa: BLE001 - whatever it is, the client is owed an answer
            _log.exception("The control %s of session %s failed.", command.action, command.session_id)
            self._refuse(command, AgentError())

    async def _query(self, query: Query) -> None:
        try:
            self._answer("result", query, await self._handler.query(query))
        except AgentError as error:
            self._refuse(query, error)
        except Exception:  # noqa: BLE001 - whatever it is, the client is owed an answer
            _log.exception("The query %s of session %s failed.", query.query, query.session_id)
            self._refuse(query, AgentError())
        finally:
            self._queries -= 1

    def _answer(self, kind: str, message: Control | Query, data: Mapping[str, Any]) -> None:
        session_id: object = message.session_id or data.get("session_id")
        self._on_answer(
            answer(
                kind,
                message_id=message.id,
                now_us=self._clock.now_us(),
                data=data,
                session_id=session_id if isinstance(session_id, str) else None,
            )
        )

    def _refuse(self, message: Control | Query, error: AgentError) -> None:
        self._on_answer(
            error_answer(
                error,
                message_id=message.id,
                now_us=self._clock.now_us(),
                language=self._language,
                session_id=message.session_id,
            )
        )

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._undecided.discard(task)
        self._waiting.discard(task)
