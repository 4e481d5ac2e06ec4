//! The engines in `peers/`.

use crate::engine::{Offers, Standing};
use crate::engines::peer::{Kind, Peer, Program};
use crate::scenario::Scenario;

/// `dynamo-runtime` 1.6.1.
pub static DYNAMO: Peer = Peer {
    name: "dynamo",
    about: "dynamo-runtime 1.6.1: TCP request plane, TCP call-home, file discovery, msgpack with plain bytes, one thread",
    standing: Standing::Asked,
    offers: Offers { deadline: "no", credit: "no", cancel: "yes", end: "yes", checksum: "no" },
    program: &Program {
        folder: "dynamo",
        // Dynamo needs parts of tokio that are not stable.
        kind: Kind::Cargo("--cfg tokio_unstable"),
        needs: "protoc (Debian: protobuf-compiler)",
        // Discovery through files, requests and answers over TCP on the loopback address, and no log.
        environment: &[
            ("DYN_DISCOVERY_BACKEND", "file"),
            ("DYN_REQUEST_PLANE", "tcp"),
            ("DYN_RESPONSE_PLANE", "tcp"),
            ("DYN_TCP_RPC_HOST", "127.0.0.1"),
            ("DYN_TCP_RESPONSE_STREAM_HOST", "127.0.0.1"),
            ("DYN_LOG", "off"),
            ("DYN_FILE_KV", "{records}"),
        ],
    },
    unsupported: |scenario| {
        let wrong = [
            (scenario.idle > 0, "keeps no connections for answers: there are no idle ones to hold"),
            (scenario.churn, "dials for each answer in every scenario"),
        ];
        first(&wrong)
    },
};

/// velo 0.21 as it comes.
pub static VELO: Peer = velo(
    "velo-default",
    "velo 0.21: unary active messages, anchors with zero-RTT tickets; TCP, mux only, one thread; its defaults",
    Standing::Asked,
);

/// velo 0.21 at its best.
pub static VELO_BEST: Peer = velo(
    "velo-c256-manual",
    "the same with a credit of 256 and a flush when the server has nothing left to do",
    Standing::Asked,
);

/// velo 0.21 with other settings.
pub static VELO_OTHERS: [Peer; 6] = [
    velo("velo-c256", "velo with a credit of 256", Standing::Variant),
    velo("velo-manual", "velo with manual flush", Standing::Variant),
    velo("velo-lanes4", "velo with 4 lanes", Standing::Variant),
    velo("velo-lanes4-c256", "velo with 4 lanes and a credit of 256", Standing::Variant),
    velo("velo-lanes4-manual", "velo with 4 lanes and manual flush", Standing::Variant),
    velo("velo-lanes4-c256-manual", "velo with 4 lanes, a credit of 256 and manual flush", Standing::Variant),
];

const fn velo(name: &'static str, about: &'static str, standing: Standing) -> Peer {
    let offers =
        Offers { deadline: "the caller's alone", credit: "yes", cancel: "of streams", end: "yes", checksum: "no" };
    Peer { name, about, standing, offers, program: &VELO_PROGRAM, unsupported: velo_unsupported }
}

static VELO_PROGRAM: Program =
    Program { folder: "velo", kind: Kind::Cargo(""), needs: "a registry to build from", environment: &[] };

fn velo_unsupported(scenario: &Scenario) -> Option<&'static str> {
    let beside = scenario.background.map_or(0, |background| background.item_bytes);
    let wrong = [
        (scenario.idle > 0, "keeps one connection to a peer: ten thousand idle ones are ten thousand nodes"),
        (scenario.churn, "keeps its connection to a peer"),
        (
            scenario.item_bytes.max(beside) >= 16 << 20,
            "an answer of 16 MiB does not come back: its frames end below that",
        ),
    ];
    first(&wrong)
}

/// What no ZeroMQ does.
const ZEROMQ: Offers = Offers {
    deadline: "no",
    credit: "no: what a slow reader leaves fills memory",
    cancel: "no",
    end: "no",
    checksum: "no",
};

fn zeromq_unsupported(scenario: &Scenario) -> Option<&'static str> {
    let wrong = [
        (
            scenario.idle > 0,
            "a connection is a socket with descriptors and queues of its own; 1,023 are the most by default",
        ),
        (scenario.churn, "sockets are made to live: one connects some time after it is asked to"),
    ];
    first(&wrong)
}

/// libzmq, by the crate `zmq`.
pub static LIBZMQ: Peer = Peer {
    name: "zeromq-libzmq",
    about: "ZeroMQ DEALER/ROUTER by libzmq 4.3: sync sockets, one I/O thread a side, no high-water mark",
    standing: Standing::Asked,
    offers: ZEROMQ,
    program: &Program {
        folder: "libzmq",
        kind: Kind::Cargo(""),
        needs: "libzmq with its headers (Debian: libzmq3-dev) and pkg-config",
        environment: &[],
    },
    unsupported: zeromq_unsupported,
};

/// The crate `zeromq`.
pub static ZEROMQ_RUST: Peer = Peer {
    name: "zeromq-rust",
    about: "ZeroMQ DEALER/ROUTER by zeromq 0.7 (Rust, tokio), one thread a side",
    standing: Standing::Asked,
    offers: ZEROMQ,
    program: &Program { folder: "zeromq", kind: Kind::Cargo(""), needs: "a registry to build from", environment: &[] },
    unsupported: zeromq_unsupported,
};

/// pyzmq on both sides.
pub static PYZMQ: Peer = Peer {
    name: "zeromq-pyzmq",
    about: "ZeroMQ DEALER/ROUTER by pyzmq 27 in Python on both sides, no high-water mark",
    standing: Standing::Asked,
    offers: ZEROMQ,
    program: &Program {
        folder: "pyzmq",
        kind: Kind::Python("pyzmq==27.1.0"),
        needs: "python3 with pip",
        environment: &[],
    },
    unsupported: |scenario| {
        let slow = scenario.largest() > 4 << 20;
        slow.then_some("Python makes contents of 16 MiB for longer than they are waited for")
            .or_else(|| zeromq_unsupported(scenario))
    },
};

fn first(wrong: &[(bool, &'static str)]) -> Option<&'static str> {
    wrong.iter().find_map(|(is_wrong, why)| is_wrong.then_some(*why))
}
