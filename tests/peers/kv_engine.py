"""An engine's stream of KV events over ZeroMQ and a reader of it, written from the stream's description with pyzmq and msgspec, and
SGLang's own publisher.

Commands are lines of JSON on stdin. {"publish": "map" | "array" | "sglang", "live": PORT, "replay": PORT} starts a publisher in place
of the one before; maps go with answers of four frames and arrays with those of three, as in the releases that have them. {"store":
[HASH ..]} publishes a batch with a store for each, {"raw": HEX} one with that event, {"skip": n} uses numbers up. {"read": "map" |
"array", "live": PORT, "replay": PORT, "topic": TEXT} listens and decodes strictly; {"ask": HEX, "frames": n} asks as a DEALER does,
with so many empty frames before the start, and {"req": HEX} as a REQ does. Every line of stdout is a JSON object with `event`:
ready, then done after each command; live with what was read; answer with what an answer held.
"""

import json
import queue
import sys
import threading
import time
import types

import msgspec
import zmq

CONTEXT = zmq.Context()
END = b"\xff" * 8


def say(**line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def shapes(array):
    """The types of vLLM 0.14 as arrays, and of 0.24 as maps."""
    base = {"array_like": array, "omit_defaults": not array, "tag": True, "tag_field": None if array else "type"}
    hashes = ("block_hashes", list[int])
    stored = [hashes, ("parent_block_hash", int | None), ("token_ids", list[int]), ("block_size", int)]
    stored += [("lora_id", int | None), ("medium", str | None), ("lora_name", str | None)]
    make = msgspec.defstruct
    return (
        make("BlockStored", stored, **base),
        make("BlockRemoved", [hashes, ("medium", str | None)], **base),
        make("AllBlocksCleared", [], **base),
    )


class Publisher:
    """One PUB and one ROUTER; numbers are given when a batch is sent."""

    def __init__(self, form, live, replay):
        self.stored = shapes(form == "array")[0]
        self.old = form == "array"
        self.sequence, self.kept = 0, []
        self.pub, self.live = bound(zmq.PUB, live)
        self.router, self.replay = bound(zmq.ROUTER, replay)

    def store(self, hashes):
        self.send([self.stored([hash], None, [1, 2], 2, None, "GPU", None) for hash in hashes])

    def send(self, events):
        payload = msgspec.msgpack.encode([time.time(), events, 0])
        self.pub.send_multipart([b"", self.sequence.to_bytes(8, "big"), payload])
        self.kept.append((self.sequence, payload))
        self.sequence += 1

    def skip(self, numbers):
        self.sequence += numbers

    def turn(self):
        while self.router.poll(0):
            client, _, start = self.router.recv_multipart()
            topic = [] if self.old else [b""]
            for sequence, payload in self.kept:
                if sequence >= int.from_bytes(start, "big"):
                    self.router.send_multipart([client, b"", *topic, sequence.to_bytes(8, "big"), payload])
            self.router.send_multipart([client, b"", *topic, END, b""])

    def close(self):
        self.pub.close(0)
        self.router.close(0)


class Sglang:
    """The publisher of the release, on its own thread. Its module wants two others of the package for what is not used here."""

    def __init__(self):
        network = types.ModuleType("network")
        network.NetworkAddress = None
        context = types.ModuleType("runtime_context")
        context.get_parallel = None
        for name in ["sglang", "sglang.srt", "sglang.srt.utils"]:
            sys.modules[name] = types.ModuleType(name)
        sys.modules["sglang.srt.utils.network"] = network
        sys.modules["sglang.srt.runtime_context"] = context
        import importlib.util
        import sysconfig

        path = sysconfig.get_path("purelib") + "/sglang/srt/disaggregation/kv_events.py"
        spec = importlib.util.spec_from_file_location("kv_events", path)
        self.module = sys.modules["kv_events"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.publisher = self.module.ZmqEventPublisher(0, "tcp://*:*", "tcp://*:*")
        self.live, self.replay = port_of(self.publisher._pub), port_of(self.publisher._replay)

    def store(self, hashes):
        stored = self.module.BlockStored
        events = [stored([hash], None, [1, 2], 2, None, "GPU") for hash in hashes]
        self.publisher.publish(self.module.KVEventBatch(ts=time.time(), events=events))

    def turn(self):
        pass

    def close(self):
        self.publisher._running = False


class Reader:
    """One SUB, decoded as strictly as the engines' own types do."""

    def __init__(self, form, live, replay, topic):
        union = shapes(form == "array")
        self.decoder = msgspec.msgpack.Decoder(tuple[float, list[union[0] | union[1] | union[2]], int])
        self.sub = CONTEXT.socket(zmq.SUB)
        self.sub.subscribe(topic.encode())
        self.sub.connect(f"tcp://127.0.0.1:{live}")
        self.replay = f"tcp://127.0.0.1:{replay}"

    def shown(self, sequence, payload):
        _, events, rank = self.decoder.decode(payload)
        names = [type(event).__name__ for event in events]
        hashes = [hash for event in events for hash in getattr(event, "block_hashes", [])]
        return [int.from_bytes(sequence, "big"), rank, names, hashes, payload.hex()]

    def turn(self):
        while self.sub.poll(0):
            topic, sequence, payload = self.sub.recv_multipart()
            assert len(sequence) == 8
            say(event="live", topic=topic.decode(), batch=self.shown(sequence, payload))

    def ask(self, start, frames):
        asking = CONTEXT.socket(zmq.DEALER)
        asking.connect(self.replay)
        asking.send_multipart([b""] * frames + [start])
        batches = []
        # Its silence is looked at when there is an answer to the next question.
        asking.send_multipart([b"", END[:7] + b"\xfe"])
        ends = 0
        while ends < (2 if frames == 1 else 1):
            assert asking.poll(20_000), "no answer"
            delimiter, topic, sequence, payload = asking.recv_multipart()
            assert delimiter == b""
            if sequence == END:
                assert (topic, payload) == (b"", b"")
                ends += 1
            else:
                batches.append([topic.decode(), *self.shown(sequence, payload)])
        asking.close(0)
        say(event="answer", batches=batches)

    def req(self, start):
        asking = CONTEXT.socket(zmq.REQ)
        asking.connect(self.replay)
        asking.send(start)
        assert asking.poll(20_000), "no answer"
        topic, sequence, payload = asking.recv_multipart()
        asking.close(0)
        say(event="answer", batches=[[topic.decode(), *self.shown(sequence, payload)]])


def bound(kind, port):
    socket = CONTEXT.socket(kind)
    for _ in range(1000):
        try:
            socket.bind(f"tcp://127.0.0.1:{port or '*'}")
            break
        except zmq.ZMQError:
            # The port of one that has just gone.
            time.sleep(0.01)
    return socket, port_of(socket)


def port_of(socket):
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])


def started(command):
    if command["publish"] == "sglang":
        return Sglang()
    return Publisher(command["publish"], command.get("live", 0), command.get("replay", 0))


def listen(commands):
    for line in sys.stdin:
        commands.put(line)
    commands.put(None)


def main():
    commands = queue.Queue()
    threading.Thread(target=listen, args=[commands], daemon=True).start()
    publisher = reader = None
    say(event="ready")
    while True:
        for part in (publisher, reader):
            if part is not None:
                part.turn()
        try:
            line = commands.get(timeout=0.005)
        except queue.Empty:
            continue
        if line is None:
            break
        command = json.loads(line)
        done = {}
        if "publish" in command:
            if publisher is not None:
                publisher.close()
            publisher = started(command)
            done = {"live": publisher.live, "replay": publisher.replay}
        if "skip" in command:
            publisher.skip(command["skip"])
        if "store" in command:
            publisher.store(command["store"])
        if "raw" in command:
            publisher.send([msgspec.Raw(bytes.fromhex(one)) for one in command["raw"]])
        if "read" in command:
            reader = Reader(command["read"], command["live"], command["replay"], command["topic"])
        if "ask" in command:
            reader.ask(bytes.fromhex(command["ask"]), command.get("frames", 1))
        if "req" in command:
            reader.req(bytes.fromhex(command["req"]))
        say(event="done", **done)
    if publisher is not None:
        publisher.close()


main()
