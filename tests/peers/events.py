"""A Dynamo process that publishes and hears events about an endpoint, its one argument, on the event plane of the environment.

Commands are lines of JSON on stdin: {"fpm": n}, {"metrics": n} and {"stored": n} publish so many of each kind, {"hear": true} starts
to print what comes as forward-pass metrics. Every line of stdout is a JSON object with `event`: ready, then done after each
command, and heard with the payload in hexadecimal digits.
"""

import asyncio
import json
import sys
import threading

from common import runtime, say, stdin_lines

from dynamo import _core

ZERO = [
    "scheduled_num_prefill_requests",
    "scheduled_sum_prefill_tokens",
    "scheduled_sum_prefill_kv_tokens",
    "scheduled_num_decode_requests",
    "scheduled_sum_decode_kv_tokens",
    "queued_num_prefill_requests",
    "queued_sum_prefill_tokens",
    "queued_num_decode_requests",
    "queued_sum_decode_kv_tokens",
]


async def handle(request, context=None):
    yield request


def hear(endpoint):
    subscriber = _core.FpmEventSubscriber(endpoint)
    while (payload := subscriber.recv()) is not None:
        say(event="heard", payload=bytes(payload).hex())


async def main():
    loop = asyncio.get_running_loop()
    commands = stdin_lines(loop)
    drt = runtime()
    endpoint = drt.endpoint(sys.argv[1])
    serving = asyncio.ensure_future(endpoint.serve_endpoint(handle))
    forward = _core.FpmDirectPublisher(endpoint, "worker-7")
    metrics = _core.WorkerMetricsPublisher()
    await metrics.create_endpoint(endpoint)
    blocks = _core.KvEventPublisher(endpoint, kv_block_size=4)
    say(event="ready")
    while (line := await commands.get()) is not None:
        command = json.loads(line)
        for i in range(command.get("fpm", 0)):
            forward.publish(dp_rank=0, wall_time_secs=1.0 + i, **dict.fromkeys(ZERO, i))
        for i in range(command.get("metrics", 0)):
            metrics.publish(0, i)
            await asyncio.sleep(0.01)
        for i in range(command.get("stored", 0)):
            blocks.publish_stored([1, 2, 3, 4], [4], [100 + i])
        if command.get("hear"):
            threading.Thread(target=hear, args=[endpoint], daemon=True).start()
        say(event="done")
    forward.shutdown()
    blocks.shutdown()
    drt.shutdown()
    await serving


asyncio.run(main())
