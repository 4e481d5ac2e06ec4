"""What both Dynamo peers share: the runtime, lines of JSON on stdout, digests of large values."""

import asyncio
import json
import os
import sys
import zlib

# The loopback; before 1.6 the listener for answers was named by its interface only.
os.environ.setdefault("DYN_TCP_RPC_HOST", "127.0.0.1")
os.environ.setdefault("DYN_TCP_RESPONSE_STREAM_HOST", "lo")
os.environ.setdefault("DYN_EVENT_PLANE", "zmq")

from dynamo import _core  # noqa: E402  (reads the environment above)

# Values whose compact JSON is longer than this are printed as length and checksum.
LONGEST = 400


def say(**line):
    """Prints one line of JSON."""
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


def shown(value):
    """The value, or the length and Adler-32 of its compact JSON text."""
    text = json.dumps(value, separators=(",", ":"), default=str, ensure_ascii=False)
    if len(text) <= LONGEST:
        return value
    raw = text.encode()
    return {"chars": len(raw), "adler32": zlib.adler32(raw)}


def runtime():
    """The runtime, without NATS, which the oldest wheels otherwise insist on."""
    loop = asyncio.get_running_loop()
    backend = os.environ.get("DYN_DISCOVERY_BACKEND", "file")
    plane = os.environ.get("DYN_REQUEST_PLANE", "tcp")
    try:
        return _core.DistributedRuntime(loop, backend, plane, False)
    except TypeError:
        return _core.DistributedRuntime(loop, backend, plane)


def stdin_lines(loop):
    """Lines of stdin through a queue; `None` at its end."""
    queue = asyncio.Queue()

    def read():
        for line in sys.stdin:
            loop.call_soon_threadsafe(queue.put_nowait, line)
        loop.call_soon_threadsafe(queue.put_nowait, None)

    import threading

    threading.Thread(target=read, daemon=True).start()
    return queue
