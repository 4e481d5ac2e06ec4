//! An etcd of its own for a test: found or fetched, started on free loopback ports, stopped, wiped and started again.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::debian;

/// Longer than a start takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running etcd with its data in a directory of its own. Ends with its owner.
#[derive(Debug)]
pub struct Etcd {
    program: PathBuf,
    directory: PathBuf,
    addr: SocketAddr,
    peer: SocketAddr,
    url: String,
    options: Vec<String>,
    child: Option<Child>,
}

/// The name and the password of the user that may do everything, once there are users.
const ROOT: &str = "root";

impl Etcd {
    /// Starts one. `None`, with the reason on stderr, if there is no etcd and none can be fetched.
    ///
    /// # Panics
    /// Instead of `None` if `CI` is `true`; and if etcd does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with more options.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn start_with(options: &[&str]) -> Option<Self> {
        static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let program = match PROGRAM.get_or_init(program) {
            Ok(program) => program.clone(),
            Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("no etcd: {why}"),
            Err(why) => {
                eprintln!("skipped, no etcd: {why}");
                return None;
            }
        };
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("ringplane-etcd-{}-{number}", std::process::id()));
        let (addr, peer) = free_addresses();
        let url = format!("etcd:http://{addr}");
        let options = options.iter().map(ToString::to_string).collect();
        let mut etcd = Self { program, directory, addr, peer, url, options, child: None };
        etcd.resume();
        Some(etcd)
    }

    /// Its discovery URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The id of its process.
    ///
    /// # Panics
    /// If it is stopped.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Kills it. What it has written stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Forgets everything. Only while stopped.
    ///
    /// # Panics
    /// If the data cannot be removed.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "stop it first");
        std::fs::remove_dir_all(&self.directory).expect("its data can be removed");
    }

    /// Starts it again, on the same address.
    ///
    /// # Panics
    /// If it does not become healthy.
    pub fn resume(&mut self) {
        let (client, peer) = (format!("http://{}", self.addr), format!("http://{}", self.peer));
        let child = Command::new(&self.program)
            .arg("--data-dir")
            .arg(&self.directory)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("etcd can be started"));
        let begun = Instant::now();
        while !self.is_healthy() {
            assert!(begun.elapsed() < PATIENCE, "etcd does not start");
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Posts a JSON body to its gateway, as `/v3/kv/compaction`, and gives the answer's body.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn post(&self, path: &str, body: &str) -> String {
        self.http("POST", path, body, "").expect("etcd answers")
    }

    /// Makes a role for a range of keys, given in base64, with a user of the role's name as name and password, and a user
    /// without any role, `nobody`. From now on nobody is served without a login.
    ///
    /// # Panics
    /// If etcd does not do it.
    pub fn protect(&self, role: &str, from: &str, to: &str) {
        let permission = format!(r#"{{"permType":"READWRITE","key":"{from}","range_end":"{to}"}}"#);
        self.post("/v3/auth/role/add", r#"{"name":"root"}"#);
        self.post("/v3/auth/role/add", &format!(r#"{{"name":"{role}"}}"#));
        self.post("/v3/auth/role/grant", &format!(r#"{{"name":"{role}","perm":{permission}}}"#));
        for user in [ROOT, role, "nobody"] {
            self.post("/v3/auth/user/add", &format!(r#"{{"name":"{user}","password":"{user}"}}"#));
        }
        for user in [ROOT, role] {
            self.post("/v3/auth/user/grant", &format!(r#"{{"user":"{user}","role":"{user}"}}"#));
        }
        let answer = self.post("/v3/auth/enable", "{}");
        assert!(answer.contains("header") && !answer.contains("error"), "{answer}");
    }

    /// Forgets every login there is.
    ///
    /// # Panics
    /// If etcd does not do it.
    pub fn forget_logins(&self) {
        self.post_as(&self.log_in(ROOT), "/v3/auth/disable", "{}");
        self.post("/v3/auth/enable", "{}");
    }

    /// A token of the user, whose password is the name.
    ///
    /// # Panics
    /// If etcd gives none.
    pub fn log_in(&self, user: &str) -> String {
        let answer = self.post("/v3/auth/authenticate", &format!(r#"{{"name":"{user}","password":"{user}"}}"#));
        let token = answer.split_once("\"token\":\"").and_then(|(_, rest)| rest.split('"').next());
        token.expect("a token").to_owned()
    }

    /// [`Etcd::post`] as whoever got the token.
    ///
    /// # Panics
    /// As there.
    pub fn post_as(&self, token: &str, path: &str, body: &str) -> String {
        self.http("POST", path, body, &format!("Authorization: {token}\r\n")).expect("etcd answers")
    }

    /// [`Etcd::post`] as the user that may do everything.
    ///
    /// # Panics
    /// As there.
    pub fn post_as_root(&self, path: &str, body: &str) -> String {
        self.post_as(&self.log_in(ROOT), path, body)
    }

    fn is_healthy(&self) -> bool {
        self.http("GET", "/health", "", "").is_ok_and(|body| body.contains("true"))
    }

    fn http(&self, method: &str, path: &str, body: &str, more: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.addr, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let head = format!("{method} {path} HTTP/1.0\r\nHost: etcd\r\n{more}Content-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Two free ports. Both are held until both are known.
fn free_addresses() -> (SocketAddr, SocketAddr) {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let (one, two) = (bind(), bind());
    (one.local_addr().expect("bound"), two.local_addr().expect("bound"))
}

fn program() -> Result<PathBuf, String> {
    debian::program("etcd", "etcd-server", "etcd")
}
