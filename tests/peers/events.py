"""A Dynamo process that publishes and hears events about an endpoint, its one argument, on the event plane of the environment, and
that routes by what the workers of another endpoint publish.

Commands are lines of JSON on stdin: {"fpm": n}, {"metrics": n} and {"stored": n} publish so many of each kind, counted from
{"from": n}; {"hear": true} starts to print what comes as forward-pass metrics; {"route": ENDPOINT} starts a KV router, which
{"held": TOKENS} asks for the blocks of each worker, and {"best": TOKENS} for the best worker. Every line of stdout is a JSON
object with `event`: ready, then done after each command, heard with the payload in hexadecimal digits, held and best with what the
router said.
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


def route(endpoint):
    thresholds = _core.LoadThresholdConfig(active_decode_blocks_threshold=0.5)
    return _core.KvRouter(endpoint, 4, _core.KvRouterConfig(), load_threshold_config=thresholds)


async def held(router, tokens):
    workers = (await router.get_overlap_scores(tokens))["workers"]
    tiers = ["device_blocks", "host_pinned_blocks"]
    return {worker["worker_id"]: [worker[tier] for tier in tiers] for worker in workers}


async def best(router, tokens):
    try:
        return (await router.best_worker(tokens))[0]
    except Exception as error:
        return str(error)


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
    router = None
    say(event="ready")
    while (line := await commands.get()) is not None:
        command = json.loads(line)
        first = command.get("from", 0)
        for i in range(first, first + command.get("fpm", 0)):
            forward.publish(dp_rank=0, wall_time_secs=1.0 + i, **dict.fromkeys(ZERO, i))
        for i in range(first, first + command.get("metrics", 0)):
            metrics.publish(0, i)
            await asyncio.sleep(0.01)
        for i in range(first, first + command.get("stored", 0)):
            blocks.publish_stored([1, 2, 3, 4], [4], [100 + i])
        if command.get("hear"):
            threading.Thread(target=hear, args=[endpoint], daemon=True).start()
        if "route" in command:
            router = route(drt.endpoint(command["route"]))
        if "held" in command:
            say(event="held", workers=await held(router, command["held"]))
        if "best" in command:
            say(event="best", worker=await best(router, command["best"]))
        say(event="done")
    del router
    forward.shutdown()
    blocks.shutdown()
    drt.shutdown()
    await serving


asyncio.run(main())
