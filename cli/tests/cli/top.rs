//! `ringplane top` and `serve --status`, as text and on a terminal that is tmux's.

use std::process::{Command, Output, Stdio};
use std::time::Instant;

use ringplane_servers::port::reserved;
use ringplane_servers::programs::tmux;
use rustix::process::{Signal, pidfd_send_signal};
use serde_json::{Value, json};

use crate::support::{BOUND, Place, Process, watch};

/// A worker with a status server, and where that is.
fn serve(place: &Place, status: &str) -> (Process, String) {
    let server = place.start(&["serve", "top.backend.echo", "--status", status]);
    let line = server.error_line();
    let url = line.strip_prefix("ringplane: status at ").unwrap_or_else(|| panic!("{line}")).to_owned();
    let line = server.error_line();
    assert!(line.contains("serving "), "{line}");
    (server, url)
}

#[test]
fn top_prints_what_a_process_does_and_what_discovery_finds_and_says_what_is_missing() {
    let place = Place::new();
    let nothing = place.run(&["top", "--once"]);
    assert!(nothing.code == Some(0) && nothing.err.contains("nothing is there"), "{nothing:?}");
    // Nobody else gets the port when the server is gone.
    let (_port, status) = reserved().unwrap();
    let (server, url) = serve(&place, &status.to_string());
    for _ in 0..3 {
        place.run(&["call", "top.backend.echo", "1"]).expect_lines(&["1"]);
    }
    let shown = place.run(&["top", "--status", &url, "--once"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.out[0].contains("ready · live"), "{shown:?}");
    let part =
        shown.out.iter().find(|line| line.starts_with("worker 127.0.0.1:")).unwrap_or_else(|| panic!("{shown:?}"));
    let numbers: Vec<&str> = part.split_whitespace().collect();
    assert_eq!((numbers[3], numbers[4]), ("0", "3"), "{part}");
    assert!(shown.out.iter().any(|line| line.contains("top.backend.echo") && line.contains("ready")), "{shown:?}");
    let seen = |args: &[&str]| {
        let ended = place.run(&[&["top", "--once", "--json"], args].concat());
        assert_eq!((ended.code, ended.out.len()), (Some(0), 1), "{ended:?}");
        serde_json::from_str::<Value>(&ended.out[0]).unwrap()
    };
    let process = seen(&["--status", &url, "--interval", "1100ms"]);
    let part = &process["parts"][0];
    assert_eq!((&part["kind"], &part["numbers"]["served.admitted"]), (&json!("worker"), &json!(3)), "{process}");
    assert!(part["rates"]["window_ms"].as_u64().is_some_and(|window| window >= 1000), "{process}");
    let found = seen(&[]);
    let instance = &found["instances"][0];
    assert_eq!((&instance["endpoint"], &instance["health"]["alive"]), (&json!("top.backend.echo"), &json!(true)));
    place.run(&["top", "--json"]).expect_usage("--once");
    let shown = place.run(&["top", "--once"]);
    assert!(shown.out[0].contains("1 instance · none is dead"), "{shown:?}");
    assert!(shown.out.iter().any(|line| line.contains("top.backend.echo") && line.contains("alive")), "{shown:?}");
    place.run(&["top", "--status", &url]).expect(1, "no terminal");
    server.signal(Signal::TERM);
    server.end().expect_last(0, "draining; a second signal ends it at once");
    place.run(&["top", "--status", &url, "--once"]).expect(4, "refused");
    place.run(&["top", "--status", "nothing"]).expect_usage("HOST:PORT");
    place.run(&["serve", "a.b.c", "--status-manage"]).expect(2, "--status");
    let system = [("DYN_SYSTEM_PORT", "many")];
    place.start_with(&system, &["serve", "a.b.c"]).end().expect(2, "DYN_SYSTEM_PORT");
}

/// A terminal of its own server.
struct Tmux {
    program: std::path::PathBuf,
    socket: String,
}

impl Tmux {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(["-S", &self.socket, "-f", "/dev/null"]).args(args).env_remove("TMUX");
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn text(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.run(args).stdout).into_owned()
    }

    /// Waits until the screen, and whether it is the one of a program, are as they should be.
    fn until(&self, what: &str, holds: impl Fn(&str, bool) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.text(&["capture-pane", "-p"]);
            let alternate = self.text(&["display-message", "-p", "#{alternate_on}"]).trim() == "1";
            if holds(&screen, alternate) {
                return screen;
            }
            assert!(begun.elapsed() < BOUND, "{what}: {alternate} {screen}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits until the shell has the terminal again. Until then the program may still read what is typed, also when it has left
    /// its screen.
    fn until_shell(&self) {
        self.until("the shell", |_, alternate| {
            !alternate && self.text(&["display-message", "-p", "#{pane_current_command}"]).trim() == "sh"
        });
    }

    fn type_line(&self, line: &str) {
        self.run(&["send-keys", "-l", line]);
        self.run(&["send-keys", "Enter"]);
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

#[test]
fn top_leaves_the_terminal_as_it_was_by_a_key_a_stop_and_a_signal() {
    let program = match tmux() {
        Ok(program) => program,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "cannot be skipped in CI: {why}");
            return println!("skipped: {why}");
        }
    };
    let place = Place::new();
    let (_server, url) = serve(&place, "127.0.0.1:0");
    place.run(&["call", "top.backend.echo", "1"]).expect_lines(&["1"]);
    let tmux = Tmux { program, socket: place.path().join("tmux").display().to_string() };
    let started = tmux.run(&["new-session", "-d", "-x", "120", "-y", "24", "env PS1='at$ ' sh"]);
    assert!(started.status.success(), "{started:?}");
    tmux.until("a shell", |screen, _| screen.contains("at$"));
    let pid = place.path().join("pid");
    let top =
        format!("sh -c 'echo $$ > {}; exec {} top --status {url}'", pid.display(), env!("CARGO_BIN_EXE_ringplane"));
    let shows = |screen: &str, alternate: bool| alternate && screen.contains("top.backend.echo");
    tmux.type_line(&top);
    let screen = tmux.until("a picture", shows);
    assert!(screen.contains("worker 127.0.0.1:") && screen.contains("q quit"), "{screen}");
    tmux.run(&["send-keys", "s"]);
    tmux.until("another order", |screen, _| screen.contains("by where"));
    // Stopped by a key, and going on.
    tmux.run(&["send-keys", "C-z"]);
    tmux.until_shell();
    tmux.type_line("fg");
    tmux.until("the picture again", |screen, alternate| shows(screen, alternate) && screen.contains("by where"));
    tmux.run(&["send-keys", "q"]);
    sane(&tmux, &place, "one");
    // By signals from elsewhere.
    tmux.type_line(&top);
    tmux.until("a picture", shows);
    let fd = watch(std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap());
    pidfd_send_signal(&fd, Signal::TSTP).unwrap();
    tmux.until_shell();
    tmux.type_line("fg");
    tmux.until("the picture again", shows);
    pidfd_send_signal(&fd, Signal::TERM).unwrap();
    sane(&tmux, &place, "two");
}

/// The shell is there again, lines are read as lines and what is typed is shown.
fn sane(tmux: &Tmux, place: &Place, word: &str) {
    tmux.until_shell();
    let file = place.path().join(word);
    tmux.type_line(&format!("stty -a > {}; echo {word}-$?", file.display()));
    tmux.until("the shell's answer", |screen, _| screen.contains(&format!("{word}-0")));
    let modes = std::fs::read_to_string(file).unwrap();
    let on = |mode: &str| modes.split_whitespace().any(|word| word == mode);
    assert!(on("icanon") && on("echo") && on("isig") && on("opost"), "{modes}");
}
