"""A Dynamo worker for the interop tests. Arguments: the endpoint. Stops on SIGTERM.

A request is an object with `mode` (default `count`):
  count     n items {"i": k}, delay_ms before each; hang_at: stays silent from that item on until it is cancelled, behind
            the last one if it is n; start_ms: is called for so long before there is a stream
  echo      the request itself, once
  length    {"length": characters of the request's `text`}
  big       n items with `size` letters each
  context   {"id", "metadata", "trace"} as the handler sees them
  onward    calls `endpoint` with {"mode": "context"}, in the same context, and yields what that answers
  fail      raises `kind` with `text`: at "call" (before the stream), or after `after` items
Every line of stdout is a JSON object with `event`: serving, request, hanging, ended, out.
"""

import asyncio
import signal
import sys
import time

from common import runtime, say

try:
    from dynamo.llm import exceptions
except ImportError:
    exceptions = None


# The process's own, for calls onward.
RUNTIME = []


def failure(request):
    """The exception that the request asks for."""
    kind = request.get("kind", "ValueError")
    made = {"ValueError": ValueError, "RuntimeError": RuntimeError}.get(kind) or getattr(exceptions, kind)
    return made(request.get("text", "boom"))


def generate(request, context=None):
    """What is raised here, before there is a stream, is told in the prologue."""
    if isinstance(request, dict) and request.get("mode") == "fail" and request.get("at") == "call":
        raise failure(request)
    if isinstance(request, dict) and "start_ms" in request:
        say(event="starting", id=context.id())
        time.sleep(request["start_ms"] / 1000)
    return stream(request, context)


def as_seen(context):
    metadata = getattr(context, "metadata", None)
    trace = getattr(context, "trace_headers", None)
    return {"id": context.id(), "metadata": dict(metadata.copy()) if metadata else {}, "trace": trace() if trace else None}


async def stream(request, context):
    asked = request if isinstance(request, dict) else {"mode": "echo"}
    mode = asked.get("mode", "count")
    say(event="request", id=context.id(), mode=mode)
    try:
        if mode == "echo":
            # An item without a value is none.
            yield "null" if request is None else request
        elif mode == "length":
            yield {"length": len(asked["text"])}
        elif mode == "context":
            yield as_seen(context)
        elif mode == "onward":
            client = await RUNTIME[0].endpoint(asked["endpoint"]).client()
            while not client.instance_ids():
                await asyncio.sleep(0.02)
            async for item in await client.round_robin({"mode": "context"}, annotated=False, context=context):
                yield item
        elif mode == "big":
            for i in range(asked.get("n", 1)):
                yield {"i": i, "text": "x" * asked["size"]}
        elif mode == "fail":
            for i in range(asked.get("after", 0)):
                yield {"i": i}
            raise failure(asked)
        else:
            async for item in count(asked, context):
                yield item
    finally:
        say(event="ended", id=context.id(), stopped=context.is_stopped(), killed=context.is_killed())


async def count(asked, context):
    delay = asked.get("delay_ms", 0) / 1000
    n = asked.get("n", 5)
    for i in range(n + 1):
        if i == asked.get("hang_at"):
            say(event="hanging", id=context.id())
            while not context.is_stopped():
                await asyncio.sleep(0.01)
        if i == n:
            return
        if delay:
            await asyncio.sleep(delay)
        if context.is_stopped():
            return
        yield {"i": i}


async def main():
    rt = runtime()
    RUNTIME.append(rt)
    served = rt.endpoint(sys.argv[1])
    if hasattr(served, "serve_bidirectional_endpoint") and len(sys.argv) > 2:
        serving = asyncio.ensure_future(served.serve_bidirectional_endpoint(echo_items, graceful_shutdown=True))
    else:
        serving = asyncio.ensure_future(served.serve_endpoint(generate, graceful_shutdown=True))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, rt.shutdown)
    # The record is written while `serving` runs; whoever waits for the instance looks at discovery.
    await asyncio.sleep(0)
    identity = served.connection_id() if hasattr(served, "connection_id") else 0
    say(event="serving", instance=format(identity, "x"))
    await serving
    say(event="out")


async def echo_items(items, context):
    """The bidirectional endpoint: every item back, then how many there were."""
    say(event="request", id=context.id(), mode="bidi")
    k = 0
    async for item in items:
        yield {"k": k, "item": item}
        k += 1
    yield {"items": k}
    say(event="ended", id=context.id(), stopped=context.is_stopped(), killed=context.is_killed())


if __name__ == "__main__":
    asyncio.run(main())
