"""ZeroMQ by pyzmq on both sides: a process of ringplane-benches becomes this program.

A ROUTER that answers in a loop over zmq.Poller, and DEALER sockets on which zmq.Poller says when to read: pyzmq's
documentation has the blocking sockets as the fastest, below zmq.asyncio. Messages of small size are copied (copy=True), as
it advises; no high-water mark. The contents, lines and figures are those of benches/src (content.rs, line.rs, measure.rs).
"""

import collections
import heapq
import json
import os
import resource
import struct
import sys
import threading
import time

import zmq

ASK = struct.Struct("<QIIII")
PREFIX = struct.Struct("<QB")
ITEM, LAST, FAILED = 0, 1, 2
REQUEST = 0xFFFFFFFF
STARTS = 64 << 10
WORD = (1 << 64) - 1
# The most that is held of an answer without an end, where nothing says how much of it was read.
KEPT = 256 << 20
# One call in this many has its contents compared while time is measured.
SAMPLE = 64
SLOW_GAP, SLOW_ITEM = 0.01, 4096


class Pattern:
    """The run of bytes that both sides know."""

    def __init__(self, largest):
        state, words = 0x9E3779B97F4A7C15, []
        for _ in range((STARTS + largest) // 8 + 1):
            state ^= state << 13 & WORD
            state ^= state >> 7
            state ^= state << 17 & WORD
            words.append(state)
        self.view = memoryview(struct.pack(f"<{len(words)}Q", *words))

    def piece(self, seed, index, length):
        mixed = (seed ^ (index * 0xD6E8FEB86659FD93 & WORD)) * 0x9E3779B97F4A7C15 & WORD
        start = mixed >> 48
        return self.view[start : start + length]


def largest(scenario):
    sizes = [scenario["request_bytes"], scenario["item_bytes"]]
    beside = scenario["background"]
    if beside:
        sizes += [beside["request_bytes"], beside["item_bytes"]]
    if scenario["slow_readers"]:
        sizes.append(SLOW_ITEM)
    return max(sizes)


def say(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def usage():
    used = dict(cpu_ns=time.process_time_ns(), voluntary=0, involuntary=0, resident=0, peak=0)
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                used["resident" if name == "VmRSS" else "peak"] = int(value.split()[0]) * 1024
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("voluntary_ctxt"):
                    used["voluntary"] += int(line.split()[1])
                elif line.startswith("nonvoluntary_ctxt"):
                    used["involuntary"] += int(line.split()[1])
    return used


def since(now, earlier):
    counts = {name: now[name] - earlier[name] for name in ("cpu_ns", "voluntary", "involuntary")}
    return dict(now, **counts)


def make_socket(context, kind):
    made = context.socket(kind)
    made.sndhwm = made.rcvhwm = made.linger = 0
    return made


class Server:
    """Answers under way: those that may send now, and those that wait for a time."""

    def __init__(self, scenario):
        self.pattern = Pattern(largest(scenario))
        self.router = make_socket(zmq.Context(), zmq.ROUTER)
        self.router.bind("tcp://0.0.0.0:*")
        self.now = collections.deque()
        self.later = []
        self.turn = 0

    def run(self):
        say({"ready": self.router.last_endpoint.decode().removeprefix("tcp://")})
        while True:
            for _ in range(len(self.now)):
                self.step(*self.now.popleft())
            while self.later and self.later[0][0] <= time.monotonic():
                self.step(*heapq.heappop(self.later)[2])
            taken = 0
            while taken < 256 and self.take():
                taken += 1
            if not taken and not self.now:
                left = None
                if self.later:
                    left = max(0, (self.later[0][0] - time.monotonic()) * 1000)
                self.router.poll(left)

    def take(self):
        try:
            caller, first, *rest = self.router.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return False
        number, _ = PREFIX.unpack_from(first)
        request = rest[0] if rest else memoryview(first)[PREFIX.size :]
        seed, items, size, gap, check = ASK.unpack_from(request)
        body = memoryview(request)[ASK.size :]
        if check and body != self.pattern.piece(seed, REQUEST, len(body)):
            self.router.send_multipart([caller, PREFIX.pack(number, FAILED) + b"a request's contents are wrong"])
        else:
            self.step(caller, number, seed, items, size, gap, 0, time.monotonic())
        return True

    def step(self, caller, number, seed, items, size, gap, index, begun):
        last = index + 1 == items
        payload = self.pattern.piece(seed, index, size)
        parts = framed(number, LAST if last else ITEM, payload)
        self.router.send_multipart([caller, *parts])
        index += 1
        if last or (items == REQUEST and index * size >= KEPT):
            return
        answer = (caller, number, seed, items, size, gap, index, begun)
        if gap:
            self.turn += 1
            heapq.heappush(self.later, (begun + gap * index / 1e6, self.turn, answer))
        else:
            self.now.append(answer)


def framed(number, part, payload):
    prefix = PREFIX.pack(number, part)
    return [prefix + payload] if len(payload) <= 4096 else [prefix, payload]


def spread(nanos):
    """The value that a histogram of three digits has in place of this one."""
    shift = max(0, nanos.bit_length() - 11)
    return ((nanos >> shift) + 1 << shift) - 1


class Call:
    """A call under way, and what it waits for."""

    __slots__ = ("kind", "worker", "seed", "items", "size", "next", "deep", "begun", "last", "request")


class Load:
    """Makes the scenario's calls and takes down what happens to them."""

    def __init__(self, scenario, server, plan):
        self.scenario, self.check = scenario, plan["check"]
        self.warmup, self.measure = (seconds(plan[name]) for name in ("warmup", "measure"))
        self.pattern = Pattern(largest(scenario))
        self.context, self.port = zmq.Context(), server.rpartition(":")[2]
        self.poller, self.sockets = zmq.Poller(), []
        for index in range(scenario["connections"]):
            dealer = make_socket(self.context, zmq.DEALER)
            dealer.connect(f"tcp://127.1.{1 + index // 200}.{1 + index % 200}:{self.port}")
            self.poller.register(dealer, zmq.POLLIN)
            self.sockets.append(dealer)
        self.calls, self.later, self.number, self.turn, self.seed = {}, [], 0, 0, 0
        self.begun_calls = self.slot = self.workers = 0
        self.open = self.over = False
        self.opened = None
        self.gap_ns = scenario["gap_us"] * 1000
        self.counts = dict(calls=0, items=0, bytes=0, background_bytes=0, failures=0)
        self.failure = None
        self.call, self.first, self.gap = (collections.Counter() for _ in range(3))
        self.slow = {}

    def run(self):
        begun = time.monotonic()
        if self.check is not None:
            self.open_window()
        for _ in range(self.scenario["slow_readers"]):
            self.send(0, "slow", None, REQUEST, SLOW_ITEM, 0, ASK.size)
        beside = self.scenario["background"]
        for _ in range(beside["in_flight"] if beside else 0):
            self.beside()
        self.workers = self.scenario["in_flight"]
        for worker in range(self.workers):
            offset = self.gap_ns / 1e9 * worker / self.workers
            self.at(begun + offset, self.start, worker, begun)
        if self.check is None:
            self.at(begun + self.warmup, self.open_window)
            self.at(begun + self.warmup + self.measure, self.end)
        while not self.over:
            self.turn_once()
        return self.measured()

    def at(self, when, what, *args):
        self.turn += 1
        heapq.heappush(self.later, (when, self.turn, what, args))

    def turn_once(self):
        now = time.monotonic()
        while self.later and self.later[0][0] <= now and not self.over:
            _, _, what, args = heapq.heappop(self.later)
            what(*args)
        if self.over:
            return
        left = max(0, (self.later[0][0] - time.monotonic()) * 1000) if self.later else None
        for dealer, _ in self.poller.poll(left):
            for _ in range(256):
                try:
                    first, *rest = dealer.recv_multipart(zmq.DONTWAIT)
                except zmq.Again:
                    break
                number, part = PREFIX.unpack_from(first)
                self.answer(number, part, rest[0] if rest else memoryview(first)[PREFIX.size :])

    def start(self, worker, begun):
        """The worker's next call, now or when it is due."""
        if self.over or (self.check is not None and self.begun_calls >= self.check):
            self.workers -= 1
            if not self.workers:
                self.end()
            return
        self.begun_calls += 1
        deep = self.check is not None or self.begun_calls % SAMPLE == 0
        rate = self.scenario["rate"]
        if rate:
            due = begun + self.slot / rate
            self.slot += 1
            if due > time.monotonic():
                return self.at(due, self.go, worker, deep, due, begun)
            return self.go(worker, deep, due, begun)
        return self.go(worker, deep, time.monotonic(), begun)

    def go(self, worker, deep, since_when, begun):
        scenario = self.scenario
        call = self.send(
            worker % scenario["connections"],
            "work",
            (worker, begun),
            scenario["items"],
            scenario["item_bytes"],
            scenario["gap_us"],
            scenario["request_bytes"],
        )
        call.deep, call.begun = deep, since_when

    def beside(self):
        beside = self.scenario["background"]
        call = self.send(0, "beside", None, beside["items"], beside["item_bytes"], 0, beside["request_bytes"])
        call.deep = self.check is not None

    def send(self, connection, kind, worker, items, size, gap, request):
        self.seed += 1
        self.number += 1
        call = Call()
        call.kind, call.worker, call.seed, call.items, call.size = kind, worker, self.seed, items, size
        call.next, call.deep, call.begun, call.last, call.request = 0, True, 0, None, request
        ask = ASK.pack(self.seed, items, size, gap, int(self.check is not None))
        payload = ask + self.pattern.piece(self.seed, REQUEST, request - ASK.size)
        self.calls[self.number] = call
        if kind == "slow":
            self.slow[self.number] = collections.deque()
            self.at(time.monotonic() + SLOW_GAP, self.read_slowly, self.number)
        self.sockets[connection].send_multipart(framed(self.number, ITEM, payload))
        return call

    def read_slowly(self, number):
        waiting = self.slow[number]
        if waiting:
            self.verify(self.calls[number], waiting.popleft())
        self.at(time.monotonic() + SLOW_GAP, self.read_slowly, number)

    def answer(self, number, part, payload):
        call = self.calls[number]
        if part == FAILED:
            del self.calls[number]
            self.failed(bytes(payload).decode())
            return self.done(call)
        if call.kind == "slow":
            return self.slow[number].append(payload)
        if not self.verify(call, payload):
            return None
        if call.kind == "beside":
            if self.open:
                self.counts["background_bytes"] += len(payload)
        else:
            self.item(call, len(payload))
        if part == LAST:
            del self.calls[number]
            if call.next != call.items:
                self.failed("an answer of the wrong length")
            elif call.kind == "work" and self.open:
                self.counts["calls"] += 1
                self.counts["bytes"] += call.request
                self.call[spread(int((time.monotonic() - call.begun) * 1e9))] += 1
            self.done(call)
        return None

    def done(self, call):
        if call.kind == "work":
            self.start(*call.worker)
        elif call.kind == "beside" and not self.over:
            self.beside()

    def verify(self, call, payload):
        right = len(payload) == call.size
        if right and call.deep:
            right = payload == self.pattern.piece(call.seed, call.next, call.size)
        call.next += 1
        if not right:
            self.failed("an item's contents are wrong")
        return right

    def item(self, call, size):
        if not self.open:
            if self.gap_ns:
                call.last = time.monotonic()
            return
        self.counts["items"] += 1
        self.counts["bytes"] += size
        if call.next == 1 or self.gap_ns:
            now = time.monotonic()
            if call.next == 1:
                self.first[spread(int((now - call.begun) * 1e9))] += 1
            elif call.last is not None:
                missed = abs(int((now - call.last) * 1e9) - self.gap_ns)
                # Corrected for coordinated omission: a pause that swallowed several gaps counts as each of them.
                while missed > 0:
                    self.gap[spread(max(1, missed))] += 1
                    missed -= self.gap_ns
            call.last = now

    def failed(self, why):
        self.counts["failures"] += 1
        self.failure = self.failure or why

    def open_window(self):
        say({"phase": "open"})
        self.opened = (time.monotonic(), usage())
        self.open = True

    def end(self):
        self.over = True

    def measured(self):
        begun, before = self.opened
        took, used = time.monotonic() - begun, since(usage(), before)
        say({"phase": "closed"})
        curves = {name: sorted(getattr(self, name).items()) for name in ("call", "first", "gap")}
        return dict(self.counts, seconds=took, failure=self.failure, usage=used, **curves)


def seconds(duration):
    return duration["secs"] + duration["nanos"] / 1e9


def report_usage():
    for _ in sys.stdin:
        say({"usage": usage()})
    os._exit(0)


def main():
    role, order = sys.argv[1], json.loads(sys.argv[2])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        if role == "serve-engine":
            threading.Thread(target=report_usage, daemon=True).start()
            Server(order["scenario"]).run()
        else:
            address, plan = order["load"]
            say({"measured": Load(order["scenario"], address, plan).run()})
    except Exception as error:  # Whatever it is, the program that started this one is told.
        say({"failed": repr(error)})
    os._exit(0)


if __name__ == "__main__":
    main()
