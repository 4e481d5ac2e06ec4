"""A caller with Dynamo's wheel: prints what a worker streams back."""
import asyncio
from dynamo.runtime import DistributedRuntime

async def main():
    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
    client = await runtime.endpoint("demo.backend.words").client()
    await client.wait_for_instances()
    async for item in await client.generate({"text": "hello from Python"}):
        print(item.data())
    runtime.shutdown()

asyncio.run(main())
