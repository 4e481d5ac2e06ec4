//! The calls to etcd that the lease and the watch ask for.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, KeyValue, KvClient, LeaseGrantOptions, PutOptions,
    Txn, TxnOp, TxnOpResponse,
};
use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::lease::{Action, Found, LeaseId, Written};
use tokio::time::timeout;

/// Bytes an answer may have: some hundred thousand instances.
const ANSWER_BYTES: usize = 64 << 20;

/// How long one connection attempt may take.
const CONNECT: Duration = Duration::from_secs(3);

/// A connection to etcd; clones share it.
#[derive(Clone)]
pub(super) struct Registry {
    pub(super) client: Client,
    answer: Duration,
}

/// What became of a lease's action.
#[derive(Debug)]
pub(super) enum Answer {
    Granted { attempt: u64, lease: LeaseId, ttl: Duration },
    Refused { attempt: u64 },
    Renewed { attempt: u64, ttl: Duration },
    Written { attempt: u64, written: Written },
    Removed { attempt: u64 },
    Failed { attempt: u64, why: String },
}

/// Every key of a prefix with its value, and the revision they belong to.
pub(super) type Snapshot = (u64, Vec<(String, Vec<u8>)>);

impl Registry {
    /// Connects lazily: an unreachable server shows at the first call.
    pub(super) async fn connect(endpoints: &[String], config: &Config) -> Result<Self, Error> {
        let mut options = ConnectOptions::new().with_require_leader(true).with_connect_timeout(CONNECT);
        if !config.etcd.ping.is_zero() {
            options = options.with_keep_alive(config.etcd.ping, config.etcd.pong).with_keep_alive_while_idle(false);
        }
        if let Some((user, password)) = &config.etcd.user {
            options = options.with_user(user, password);
        }
        let client = Client::connect(endpoints, Some(options)).await?;
        Ok(Self { client, answer: config.watch.answer.min(config.lease.ttl / 3) })
    }

    /// Reads all keys that begin with `prefix`.
    pub(super) async fn snapshot(&self, prefix: &str) -> Result<Snapshot, String> {
        let read = async {
            let mut response = self.kv().get(prefix, Some(GetOptions::new().with_prefix())).await?;
            let revision = response.header().map_or(0, |header| unsigned(header.revision()));
            let entries = response.take_kvs().into_iter().filter_map(|kv| {
                let (key, value) = kv.into_key_value();
                Some((String::from_utf8(key).ok()?, value))
            });
            Ok((revision, entries.collect()))
        };
        self.bounded(read).await
    }

    /// What is at a key.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Found>, String> {
        self.bounded(async { Ok(self.kv().get(key, None).await?.kvs().first().map(as_found)) }).await
    }

    /// Puts `value` in the place of what was `found`, under the same lease. `false` if that has changed since.
    pub(super) async fn swap(&self, key: &str, found: &Found, value: Vec<u8>) -> Result<bool, String> {
        let revision = i64::try_from(found.revision).unwrap_or(i64::MAX);
        let same = Compare::mod_revision(key, CompareOp::Equal, revision);
        let options = found.lease.map(|lease| PutOptions::new().with_lease(lease.0));
        let txn = Txn::new().when([same]).and_then([TxnOp::put(key, value, options)]);
        self.bounded(async { Ok(self.kv().txn(txn).await?.succeeded()) }).await
    }

    /// The revision the registry is at.
    pub(super) async fn revision(&self, prefix: &str) -> Result<u64, String> {
        let options = GetOptions::new().with_prefix().with_count_only();
        let read = async {
            let response = self.kv().get(prefix, Some(options)).await?;
            Ok(response.header().map_or(0, |header| unsigned(header.revision())))
        };
        self.bounded(read).await
    }

    /// Ends a lease and everything under it.
    pub(super) async fn revoke(&self, lease: LeaseId) -> Result<(), String> {
        let mut client = self.client.lease_client();
        self.bounded(async { client.revoke(lease.0).await.map(drop) }).await
    }

    /// Does what the lease asks for.
    pub(super) async fn act(self, action: Action) -> Answer {
        match action {
            Action::Grant { attempt, wish, ttl } => self.grant(attempt, wish, ttl).await,
            Action::Renew { attempt, lease } => match self.renew(lease).await {
                Ok(ttl) => Answer::Renewed { attempt, ttl },
                Err(why) => Answer::Failed { attempt, why },
            },
            Action::Create { attempt, key, value, lease } => {
                let free = Compare::version(key.as_str(), CompareOp::Equal, 0);
                self.write(attempt, free, key, value, lease, true).await
            }
            Action::Adopt { attempt, key, value, lease, revision } => {
                let revision = i64::try_from(revision).unwrap_or(i64::MAX);
                let same = Compare::mod_revision(key.as_str(), CompareOp::Equal, revision);
                self.write(attempt, same, key, value, lease, false).await
            }
            Action::Remove { attempt, key, value } => {
                let ours = Compare::value(key.as_str(), CompareOp::Equal, value);
                let txn = Txn::new().when([ours]).and_then([TxnOp::delete(key, None)]);
                match self.bounded(async { self.kv().txn(txn).await.map(drop) }).await {
                    Ok(()) => Answer::Removed { attempt },
                    Err(why) => Answer::Failed { attempt, why },
                }
            }
        }
    }

    async fn grant(&self, attempt: u64, wish: Option<LeaseId>, ttl: Duration) -> Answer {
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let options = wish.map(|wish| LeaseGrantOptions::new().with_id(wish.0));
        let mut client = self.client.lease_client();
        let granted = timeout(self.answer, client.grant(seconds, options)).await;
        let why = match granted {
            Ok(Ok(response)) => {
                let ttl = Duration::from_secs(unsigned(response.ttl()));
                return Answer::Granted { attempt, lease: LeaseId(response.id()), ttl };
            }
            Ok(Err(error)) if says(&error, "lease already exists") => {
                // Ours: granted in an attempt that was given up before its answer came, or never lost.
                let Some(lease) = wish else { return Answer::Refused { attempt } };
                match self.renew(lease).await {
                    Ok(ttl) if !ttl.is_zero() => return Answer::Granted { attempt, lease, ttl },
                    _ => return Answer::Refused { attempt },
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => LATE.to_owned(),
        };
        Answer::Failed { attempt, why }
    }

    /// The life that is left to the lease; zero if there is none of this id.
    async fn renew(&self, lease: LeaseId) -> Result<Duration, String> {
        let mut client = self.client.lease_client();
        // The first answer is read by `keep_alive` itself, which makes an error of "not found".
        let ask = async {
            match client.keep_alive(lease.0).await {
                Ok((mut keeper, mut answers)) => {
                    keeper.keep_alive().await?;
                    Ok(answers.message().await?.map_or(0, |answer| unsigned(answer.ttl())))
                }
                Err(Error::LeaseKeepAliveError(why)) if why.contains("not found") => Ok(0),
                Err(error) => Err(error),
            }
        };
        self.bounded(ask).await.map(Duration::from_secs)
    }

    async fn write(
        &self,
        attempt: u64,
        when: Compare,
        key: String,
        value: Vec<u8>,
        lease: LeaseId,
        create: bool,
    ) -> Answer {
        let put = TxnOp::put(key.as_str(), value, Some(PutOptions::new().with_lease(lease.0)));
        let txn = Txn::new().when([when]).and_then([put]).or_else([TxnOp::get(key, None)]);
        let mut client = self.kv();
        let written = match timeout(self.answer, client.txn(txn)).await {
            Ok(Ok(response)) if response.succeeded() => Written::Done,
            Ok(Ok(_)) if !create => Written::Changed,
            Ok(Ok(response)) => found(response.op_responses()).map_or(Written::Changed, Written::Exists),
            Ok(Err(error)) if says(&error, "lease not found") => Written::NoLease,
            Ok(Err(error)) => return Answer::Failed { attempt, why: error.to_string() },
            Err(_) => return Answer::Failed { attempt, why: LATE.to_owned() },
        };
        Answer::Written { attempt, written }
    }

    fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(ANSWER_BYTES)
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
        match timeout(self.answer, call).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(LATE.to_owned()),
        }
    }
}

const LATE: &str = "no answer in time";

fn says(error: &Error, what: &str) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains(what))
}

fn found(responses: Vec<TxnOpResponse>) -> Option<Found> {
    responses.into_iter().find_map(|response| match response {
        TxnOpResponse::Get(response) => response.kvs().first().map(as_found),
        _ => None,
    })
}

fn as_found(kv: &KeyValue) -> Found {
    let lease = (kv.lease() != 0).then(|| LeaseId(kv.lease()));
    Found { value: kv.value().to_vec(), lease, revision: unsigned(kv.mod_revision()) }
}

/// Revisions and lives are never negative where they mean something.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
