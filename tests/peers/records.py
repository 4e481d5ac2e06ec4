"""A Dynamo process that registers a model and publishers of events. Arguments: the endpoint, the model's name, its path, and
`tokens` for a model that takes tokens, whose files are there to be named.

Commands are lines of JSON on stdin: {"taints": [..]} replaces the model's taints, {"unregister": true} takes the model back.
Every line of stdout is a JSON object with `event`: registered or refused (with `why`), then done after each command.
"""

import asyncio
import json
import sys

from common import runtime, say, stdin_lines

from dynamo import _core


async def handle(request, context=None):
    yield request


async def main():
    loop = asyncio.get_running_loop()
    commands = stdin_lines(loop)
    drt = runtime()
    name, model, path = sys.argv[1:4]
    tokens = sys.argv[4:] == ["tokens"]
    endpoint = drt.endpoint(name)
    serving = asyncio.ensure_future(endpoint.serve_endpoint(handle))
    try:
        await _core.register_model(
            _core.ModelInput.Tokens if tokens else _core.ModelInput.Text,
            _core.ModelType.Chat | _core.ModelType.Completions if tokens else _core.ModelType.Chat,
            endpoint,
            path,
            model,
            worker_type=_core.WorkerType.Aggregated,
            skip_model_assets=not tokens,
        )
    except Exception as error:
        say(event="refused", why=str(error))
        serving.cancel()
        drt.shutdown()
        return
    publisher = _core.KvEventPublisher(endpoint, kv_block_size=16)
    say(event="registered")
    while (line := await commands.get()) is not None:
        command = json.loads(line)
        if "taints" in command:
            await _core.update_model_taints(endpoint, set(command["taints"]))
        if command.get("unregister"):
            await _core.unregister_model(endpoint)
        say(event="done")
    publisher.shutdown()
    drt.shutdown()
    await serving


asyncio.run(main())
