//! Logins and encryption of the connection to a NATS server, with a real one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nkeys::KeyPair;
use ringplane::Chain;
use ringplane::events::{Delivery, Error, Events, Nats, NatsConfig, Transport};
use ringplane::nats::{Login, Tls};
use ringplane_servers::nats::NatsServer;
use serde_json::{Value, json};

use tokio::time::timeout;

use super::transports::nats_at;

/// A pair of keys that nobody uses elsewhere.
const SEED: &str = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
const PUBLIC: &str = "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK";
/// The seed of another pair.
const OTHER: &str = "SUAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB6IC5CQ";

/// A server with these settings; nothing is tested where there is none and nobody asks for it.
fn server(settings: &str) -> Option<NatsServer> {
    match NatsServer::with(settings) {
        Ok(server) => Some(server),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no NATS server: {why}");
            eprintln!("no NATS server: {why}; nothing is tested");
            None
        }
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/tls").join(name)
}

/// Connects and hears the server.
async fn works(config: &NatsConfig) {
    Nats::connect(config).await.unwrap().flush(None).await.unwrap();
}

async fn fails(config: &NatsConfig) -> String {
    Chain(&Nats::connect(config).await.unwrap_err()).to_string()
}

#[tokio::test]
async fn a_key_logs_in_and_another_one_is_refused_at_once() {
    let Some(server) = server(&format!("authorization {{ users: [{{nkey: {PUBLIC}}}] }}")) else { return };
    let mut config = nats_at(server.address());
    config.server.login = Login::Nkey(SEED.to_owned());
    works(&config).await;
    let begun = Instant::now();
    for login in [Login::Nkey(OTHER.to_owned()), Login::Anonymous] {
        config.server.login = login;
        let why = fails(&config).await;
        assert!(why.contains("does not take this login"), "{why}");
    }
    assert!(begun.elapsed() < config.server.startup / 2, "it was tried again");
}

#[tokio::test]
async fn a_subject_that_is_denied_fails_its_own_uses_and_no_other() {
    let closed = "{deny: [\"namespace.denied.closed\"]}";
    let user = format!("{{user: u, password: p, permissions: {{publish: {closed}, subscribe: {closed}}}}}");
    let Some(server) = server(&format!("authorization {{ users: [{user}] }}")) else { return };
    let mut config = nats_at(server.address());
    config.server.login = Login::User("u".to_owned(), "p".to_owned());
    let events = Events::builder().discovery("mem:denied").plane(config).open().await.unwrap();
    let denied = |error: Error, what: &str| {
        let why = Chain(&error).to_string();
        assert!(why.contains(&format!("{what} `namespace.denied.closed`")), "{why}");
    };
    let closed = events.publisher("denied", "closed").await.unwrap();
    let open = events.publisher("denied", "open").await.unwrap();
    denied(events.subscriber("denied", "closed").await.unwrap_err(), "subscribe to");
    let mut heard = events.subscriber("denied", "open").await.unwrap();
    for round in 0..2 {
        closed.publish("x").await.unwrap();
        open.publish("y").await.unwrap();
        open.flush().await.unwrap();
        denied(closed.flush().await.unwrap_err(), "publish to");
        let told = timeout(Duration::from_secs(30), heard.next()).await.expect("nothing comes");
        assert!(matches!(told, Some(Ok(Delivery::Event(event))) if event.sequence == round));
    }
}

/// Base64 for URLs without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits =
        |three: &[u8]| three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
    let letters = |three: &[u8]| {
        let bits = bits(three);
        (0..=three.len()).map(move |letter| char::from(LETTERS[bits >> (18 - 6 * letter) & 63]))
    };
    bytes.chunks(3).flat_map(letters).collect()
}

/// A JWT of NATS: what `issuer` says of `subject`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, mut claims: Value) -> String {
    claims["version"] = json!(2);
    let (iss, sub) = (issuer.public_key(), subject.public_key());
    let claims = json!({"jti": name, "iat": 1_700_000_000, "iss": iss, "sub": sub, "name": name, "nats": claims});
    let header = base64(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", base64(claims.to_string().as_bytes()));
    let signature = base64(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn a_file_of_credentials_logs_in_and_one_of_another_account_is_refused() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let trusted = jwt(&operator, &operator, "operator", json!({"type": "operator"}));
    let free = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let known = jwt(&operator, &account, "account", json!({"type": "account", "limits": free}));
    let settings =
        format!("operator: {trusted}\nresolver: MEMORY\nresolver_preload: {{ {}: {known} }}", account.public_key());
    let Some(server) = server(&settings) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut config = nats_at(server.address());
    for (account, is_known) in [(account, true), (KeyPair::new_account(), false)] {
        let user = KeyPair::new_user();
        let claims = json!({"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
        let (jwt, seed) = (jwt(&account, &user, "user", claims), user.seed().unwrap());
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let path = folder.path().join("user.creds");
        std::fs::write(&path, text).unwrap();
        config.server.login = Login::CredentialsFile(path);
        if is_known {
            works(&config).await;
        } else {
            let why = fails(&config).await;
            assert!(why.contains("does not take this login"), "{why}");
        }
    }
}

#[tokio::test]
async fn what_is_no_file_of_credentials_is_named() {
    let mut config = nats_at("127.0.0.1:1");
    for path in [file("missing.creds"), file("ca.pem")] {
        config.server.login = Login::CredentialsFile(path.clone());
        let why = fails(&config).await;
        assert!(why.contains(&format!("`{}` does not hold credentials", path.display())), "{why}");
    }
    config.server.login = Login::Anonymous;
    config.server.tls.ca = Some(file("server.key"));
    let why = fails(&config).await;
    assert!(why.contains("server.key` does not hold certificates (PEM)"), "{why}");
}

#[tokio::test]
async fn both_ends_show_their_certificates_and_one_that_lacks_its_own_or_trusts_others_is_not_served() {
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| format!("{:?}", file(name)));
    let tls = format!("tls {{ cert_file: {cert}, key_file: {key}, ca_file: {ca}, verify: true, timeout: 20 }}");
    let Some(server) = server(&tls) else { return };
    let mut config = nats_at(server.address());
    let client = Some((file("client.pem"), file("client.key")));
    config.server.tls = Tls { ca: Some(file("ca.pem")), client: client.clone(), insecure: false };
    works(&config).await;
    config.server.tls = Tls { ca: None, client, insecure: true };
    works(&config).await;
    config.server.startup = Duration::from_millis(500);
    let begun = Instant::now();
    for tls in [Tls { ca: Some(file("ca.pem")), ..Tls::default() }, Tls::default()] {
        config.server.tls = tls;
        let why = loop {
            let why = fails(&config).await.to_lowercase();
            // A server that is slow has not said anything.
            if !why.contains("does not answer") {
                break why;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{why}");
        };
        assert!(why.contains("no nats server") && why.contains("certificate"), "{why}");
    }
}
