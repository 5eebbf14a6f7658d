"""run_forever, run_until_complete, stop and close behave as on asyncio's loop; a subclass's
overrides are called.
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import on_asyncio_too

import aiopoll


def run_loop(loop: Any) -> Any:
    """run_forever, run_until_complete, stop, close: outside a coroutine."""
    seen: list[Any] = []

    async def fail() -> None:
        raise ValueError("it failed")

    async def stop() -> None:
        loop.stop()
        await asyncio.Event().wait()

    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "runs in the same turn")
    seen += [loop.run_forever(), loop.is_running(), loop.is_closed()]
    loop.stop()
    seen.append(loop.run_forever())
    for coroutine in (fail(), stop()):
        try:
            seen.append(loop.run_until_complete(coroutine))
        except Exception as error:
            seen.append((type(error), str(error)))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    loop.close()
    for call in (
        loop.run_forever,
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
    ):
        try:
            call()
        except RuntimeError as error:
            seen.append((type(error), str(error)))
    return [*seen, loop.is_closed()]


@pytest.mark.parametrize("options", [{"backend": "aio"}, {"backend": "epoll"}], ids=str)
def test_running_and_closing_behave_as_in_asyncio(options: dict[str, Any]) -> None:
    assert run_loop(aiopoll.new_event_loop(**options)) == run_loop(asyncio.SelectorEventLoop())


def test_run_in_a_running_loop_raises_and_makes_no_loop() -> None:
    async def nothing() -> None:
        pass

    async def main() -> None:
        inner = nothing()
        with pytest.raises(RuntimeError, match=r"run\(\) cannot be called from a running event"):
            aiopoll.run(inner)
        inner.close()

    aiopoll.run(main())


@pytest.mark.parametrize("backend", ["aio", "epoll"])
def test_the_futures_of_a_subclass_are_its_own(backend: str, tmp_path: Path) -> None:
    class Mine(asyncio.Future[Any]):
        pass

    class Loop(aiopoll.EventLoop):
        def create_future(self) -> asyncio.Future[Any]:
            made.append(Mine(loop=self))
            return made[-1]

    made: list[Mine] = []
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            loop.call_soon(theirs.send, b"x")
            made.clear()
            assert await loop.sock_recv(ours, 1) == b"x"
            assert len(made) == 1
        async with aiopoll.open(path, "rb", direct=True) as file:
            made.clear()
            assert bytes(await file.pread(7, 0)) == b"content"
            assert made

    loop = Loop(backend=backend)
    loop.run_until_complete(main())
    loop.close()
    assert isinstance(aiopoll.EventLoop.create_future(loop), asyncio.Future)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, at a chosen moment."""


def interrupt_setting_up(loop: Any, patch: pytest.MonkeyPatch) -> None:
    set_up = getattr(loop, "_run_forever_setup", None)  # from 3.13 on; from 3.13.1 on before `try`

    def interrupted() -> None:
        assert set_up is not None
        set_up()
        raise Interrupted

    if set_up is None:
        interrupt_cleaning_up(loop, patch)
    else:
        patch.setattr(loop, "_run_forever_setup", interrupted)


def interrupt_cleaning_up(loop: Any, patch: pytest.MonkeyPatch) -> None:
    set_running_loop = asyncio.events._set_running_loop

    def interrupted(running: Any) -> None:
        if running is None:
            raise Interrupted
        set_running_loop(running)

    patch.setattr(asyncio.events, "_set_running_loop", interrupted)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("moment", [interrupt_setting_up, interrupt_cleaning_up])
def test_an_interrupt_around_the_run_leaves_no_running_loop(
    loop: Any, moment: Any, debug: bool
) -> None:
    loop.set_debug(debug)
    hooks, depth = sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()
    with pytest.MonkeyPatch.context() as patch:
        moment(loop, patch)
        loop.call_soon(loop.stop)
        with pytest.raises(Interrupted):
            loop.run_forever()
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None
    assert sys.get_asyncgen_hooks() == hooks
    assert sys.get_coroutine_origin_tracking_depth() == depth
    loop.set_debug(False)
    loop.call_soon(loop.stop)  # the other may still be to come
    loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, "it runs")) == "it runs"


@on_asyncio_too
def test_a_callback_runs_iterations_itself(loop: Any) -> None:
    """One after another: none of them goes on until stop()."""
    ran: list[int] = []

    def nest() -> None:
        for number in range(3):
            loop.call_soon(ran.append, number)
            loop._run_once()
        loop.stop()

    loop.call_soon(nest)
    loop.run_forever()
    assert ran == [0, 1, 2]
