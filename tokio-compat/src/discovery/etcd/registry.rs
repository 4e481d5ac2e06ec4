//! The calls to etcd that the lease and the watch ask for.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error, GetOptions, KeyValue, KvClient, LeaseGrantOptions, PutOptions, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};
use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::lease_event::{Action, Found, LeaseId, Written};
use ringplane_core::discovery::trouble::Cause;

use crate::discovery::etcd::session::{Session, says};

/// Bytes an answer may have: some hundred thousand instances.
const ANSWER_BYTES: usize = 64 << 20;

/// An etcd; clones share its connection.
#[derive(Clone)]
pub(super) struct Registry {
    pub(super) session: Session,
}

/// What became of a lease's action.
#[derive(Debug)]
pub(super) enum Answer {
    Granted { attempt: u64, lease: LeaseId, ttl: Duration },
    Refused { attempt: u64 },
    Renewed { attempt: u64, ttl: Duration },
    Written { attempt: u64, written: Written },
    Removed { attempt: u64 },
    Failed { attempt: u64, cause: Cause },
}

/// Every key of a prefix with its value, and the revision they belong to.
pub(super) type Snapshot = (u64, Vec<(String, Vec<u8>)>);

impl Registry {
    /// Connects lazily: an unreachable server shows at the first call.
    pub(super) async fn connect(endpoints: &[String], config: &Config) -> Result<Self, Error> {
        Ok(Self { session: Session::new(endpoints, config).await? })
    }

    /// Reads all keys that begin with `prefix`.
    pub(super) async fn snapshot(&self, prefix: &str) -> Result<Snapshot, Cause> {
        let read = |client| async move {
            let mut response = kv(&client).get(prefix, Some(GetOptions::new().with_prefix())).await?;
            let revision = response.header().map_or(0, |header| unsigned(header.revision()));
            let entries = response.take_kvs().into_iter().filter_map(|kv| {
                let (key, value) = kv.into_key_value();
                Some((String::from_utf8(key).ok()?, value))
            });
            Ok((revision, entries.collect()))
        };
        self.session.call(read).await
    }

    /// What is at a key.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Found>, Cause> {
        let read = |client| async move { Ok(kv(&client).get(key, None).await?.kvs().first().map(as_found)) };
        self.session.call(read).await
    }

    /// Puts `value` in the place of what was `found`, under the same lease. `false` if that has changed since.
    pub(super) async fn swap(&self, key: &str, found: &Found, value: Vec<u8>) -> Result<bool, Cause> {
        let revision = i64::try_from(found.revision).unwrap_or(i64::MAX);
        let same = Compare::mod_revision(key, CompareOp::Equal, revision);
        let options = found.lease.map(|lease| PutOptions::new().with_lease(lease.0));
        let txn = Txn::new().when([same]).and_then([TxnOp::put(key, value, options)]);
        self.session.call(|client| transact(client, txn.clone())).await.map(|response| response.succeeded())
    }

    /// The revision the registry is at.
    pub(super) async fn revision(&self, prefix: &str) -> Result<u64, Cause> {
        let read = |client| async move {
            let options = GetOptions::new().with_prefix().with_count_only();
            let response = kv(&client).get(prefix, Some(options)).await?;
            Ok(response.header().map_or(0, |header| unsigned(header.revision())))
        };
        self.session.call(read).await
    }

    /// Ends a lease and everything under it.
    pub(super) async fn revoke(&self, lease: LeaseId) -> Result<(), Cause> {
        self.session.call(|client: Client| async move { client.lease_client().revoke(lease.0).await.map(drop) }).await
    }

    /// Does what the lease asks for.
    pub(super) async fn act(self, action: Action) -> Answer {
        match action {
            Action::Grant { attempt, wish, ttl } => self.grant(attempt, wish, ttl).await,
            Action::Renew { attempt, lease } => match self.renew(lease).await {
                Ok(ttl) => Answer::Renewed { attempt, ttl },
                Err(cause) => Answer::Failed { attempt, cause },
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
                match self.session.call(|client| transact(client, txn.clone())).await {
                    Ok(_) => Answer::Removed { attempt },
                    Err(cause) => Answer::Failed { attempt, cause },
                }
            }
        }
    }

    async fn grant(&self, attempt: u64, wish: Option<LeaseId>, ttl: Duration) -> Answer {
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let grant = |client: Client| async move {
            let options = wish.map(|wish| LeaseGrantOptions::new().with_id(wish.0));
            match client.lease_client().grant(seconds, options).await {
                Ok(response) => Ok(Some((LeaseId(response.id()), unsigned(response.ttl())))),
                Err(error) if says(&error, "lease already exists") => Ok(None),
                Err(error) => Err(error),
            }
        };
        match (self.session.call(grant).await, wish) {
            (Ok(Some((lease, seconds))), _) => Answer::Granted { attempt, lease, ttl: Duration::from_secs(seconds) },
            // Ours: granted in an attempt that was given up before its answer came, or never lost.
            (Ok(None), Some(lease)) => match self.renew(lease).await {
                Ok(ttl) if !ttl.is_zero() => Answer::Granted { attempt, lease, ttl },
                _ => Answer::Refused { attempt },
            },
            (Ok(None), None) => Answer::Refused { attempt },
            (Err(cause), _) => Answer::Failed { attempt, cause },
        }
    }

    /// The life that is left to the lease; zero if there is none of this id.
    async fn renew(&self, lease: LeaseId) -> Result<Duration, Cause> {
        // The first answer is read by `keep_alive` itself, which makes an error of "not found".
        let ask = |client: Client| async move {
            match client.lease_client().keep_alive(lease.0).await {
                Ok((mut keeper, mut answers)) => {
                    keeper.keep_alive().await?;
                    Ok(answers.message().await?.map_or(0, |answer| unsigned(answer.ttl())))
                }
                Err(Error::LeaseKeepAliveError(why)) if why.contains("not found") => Ok(0),
                Err(error) => Err(error),
            }
        };
        self.session.call(ask).await.map(Duration::from_secs)
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
        let write = |client| {
            let transacted = transact(client, txn.clone());
            async move {
                match transacted.await {
                    Ok(response) => Ok(Some(response)),
                    Err(error) if says(&error, "lease not found") => Ok(None),
                    Err(error) => Err(error),
                }
            }
        };
        let written = match self.session.call(write).await {
            Ok(Some(response)) if response.succeeded() => Written::Done,
            Ok(Some(_)) if !create => Written::Changed,
            Ok(Some(response)) => found(response.op_responses()).map_or(Written::Changed, Written::Exists),
            Ok(None) => Written::NoLease,
            Err(cause) => return Answer::Failed { attempt, cause },
        };
        Answer::Written { attempt, written }
    }
}

fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(ANSWER_BYTES)
}

async fn transact(client: Client, txn: Txn) -> Result<TxnResponse, Error> {
    kv(&client).txn(txn).await
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
