"""A worker with Dynamo's wheel: the words of a text, one by one."""
import asyncio
from dynamo.runtime import DistributedRuntime

async def words(request, context):
    for word in request["text"].split():
        yield word

async def main():
    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
    await runtime.endpoint("demo.backend.words").serve_endpoint(words)

asyncio.run(main())
