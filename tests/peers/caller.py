"""A Dynamo caller for the interop tests. Arguments: the endpoint, how many instances to wait for.

Each line of stdin is a command, an object with `call` (a name that its lines of output carry) and
  request, pad         the request; `pad` letters are added to it as `text`
  metadata, context    for the handler's context; `context` is its id
  stop_after, drop_after   cancels after so many items (0: when the stream is there)
  instance             only this instance (hex)
  timeout              seconds for one call (default 20)
  repeat, parallel     many calls, answered with one summary line and no items
  pause_ms             pause between the calls of one of the `parallel` lanes
  rest_ms              reads nothing for so long after the first item of each of those calls
  retry                makes a call again that was lost before its first item, as Dynamo's own migration does
or with `stop` or `drop` (the name of a running call), or `instances`.
The end of stdin shuts down. Every line of stdout is a JSON object: {"call", "item"}, {"call", "end"},
{"call", "error", "type", "after"}, {"call", "timeout"}, {"call", "done", "failed", "items", "errors"}.
"""

import asyncio
import gc
import json
import sys

from common import _core, runtime, say, shown, stdin_lines

RUNNING = {}


def context_for(command):
    make = getattr(_core, "Context", None)
    if make is None:
        return None
    try:
        return make(command.get("context"), command.get("metadata"))
    except TypeError:
        return make(command.get("context"))


class Call:
    """One call, which other commands may stop or drop."""

    def __init__(self, client, command):
        self.client, self.command, self.name = client, command, command["call"]
        self.context, self.task, self.items = context_for(command), None, 0

    async def stream(self):
        request = self.command.get("request")
        if self.command.get("pad"):
            request = dict(request, text="x" * self.command["pad"])
        extra = {"annotated": False}
        if self.context is not None:
            extra["context"] = self.context
        if self.command.get("instance"):
            return await self.client.direct(request, int(self.command["instance"], 16), **extra)
        return await self.client.round_robin(request, **extra)

    async def run(self, each):
        stream = await self.stream()
        if self.command.get("stop_after") == 0:
            self.context.stop_generating()
        async for item in stream:
            self.items += 1
            each(item)
            if self.items == 1 and self.command.get("rest_ms"):
                await asyncio.sleep(self.command["rest_ms"] / 1000)
            if self.items == self.command.get("stop_after"):
                self.context.stop_generating()
            if self.items == self.command.get("drop_after"):
                return False
        return True

    async def told(self):
        try:
            limit = self.command.get("timeout", 20)
            ended = await asyncio.wait_for(self.run(lambda item: say(call=self.name, item=shown(item))), limit)
            say(call=self.name, **({"end": self.items} if ended else {"dropped": self.items}))
        except asyncio.TimeoutError:
            say(call=self.name, timeout=True, after=self.items)
        except asyncio.CancelledError:
            say(call=self.name, dropped=self.items)
        except BaseException as error:  # noqa: BLE001  (whatever it is, the test judges it)
            say(call=self.name, error=str(error), type=type(error).__name__, after=self.items)
        finally:
            RUNNING.pop(self.name, None)
            gc.collect()


async def many(client, command):
    left, failed, items, errors = command["repeat"], 0, 0, []
    # Every call has an id of its own.
    command.pop("context", None)

    async def once():
        call = Call(client, command)
        try:
            await asyncio.wait_for(call.run(lambda _: None), command.get("timeout", 20))
        except BaseException as error:  # noqa: BLE001
            return call.items, f"{type(error).__name__}: {error}"
        return call.items, None

    async def lane():
        nonlocal left, failed, items
        while left > 0:
            left -= 1
            read, error = await once()
            tries = 3 if command.get("retry") else 0
            while error and "Unavailable" in error and not read and tries:
                tries -= 1
                read, error = await once()
            items += read
            if error:
                failed += 1
                errors.append(error)
            if command.get("pause_ms"):
                await asyncio.sleep(command["pause_ms"] / 1000)

    await asyncio.gather(*[lane() for _ in range(command.get("parallel", 1))])
    say(call=command["call"], done=command["repeat"], failed=failed, items=items, errors=errors[:5])


def obey(client, command, tasks):
    if "call" in command:
        if command.get("repeat"):
            tasks.append(asyncio.ensure_future(many(client, command)))
            return
        call = Call(client, command)
        RUNNING[call.name] = call
        call.task = asyncio.ensure_future(call.told())
        tasks.append(call.task)
    elif "instances" in command:
        say(instances=sorted(format(one, "x") for one in client.instance_ids()))
    elif command.get("stop") in RUNNING:
        RUNNING[command["stop"]].context.stop_generating()
    elif command.get("drop") in RUNNING:
        # Behind its first step, or it would end without a word.
        asyncio.get_running_loop().call_soon(RUNNING[command["drop"]].task.cancel)


async def main():
    loop = asyncio.get_running_loop()
    commands = stdin_lines(loop)
    rt = runtime()
    client = await rt.endpoint(sys.argv[1]).client()
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    while len(client.instance_ids()) < wanted:
        await asyncio.sleep(0.02)
    say(event="ready")
    tasks = []
    while (line := await commands.get()) is not None:
        obey(client, json.loads(line), tasks)
    await asyncio.gather(*tasks)
    rt.shutdown()
    say(event="out")


if __name__ == "__main__":
    asyncio.run(main())
