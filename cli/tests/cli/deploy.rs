//! The commands and the manifest of `docs/deploy.md`, tried with addresses of one host.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::support::{BOUND, Place, Process};

/// The blocks of the page in this language.
fn blocks(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy.md");
    let page = std::fs::read_to_string(path).unwrap();
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The words of a line of a shell, quoted with `'` or not at all.
fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// What follows `name` in the lines of a manifest, up to one of `ends`; the test fails if there is none.
fn value<'a>(text: &'a str, name: &str, ends: &[char]) -> &'a str {
    let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("no `{name}` in {text}"));
    rest.split(ends).next().unwrap().trim()
}

/// The value of an option, as given in these words.
fn option<'a>(args: &'a [String], name: &str) -> &'a str {
    let at = args.iter().position(|word| word == name).unwrap_or_else(|| panic!("no {name} in {args:?}"));
    &args[at + 1]
}

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap_or_else(|_| panic!("{text} is no whole number of seconds"))
}

/// Starts a server with the words of the page, but on any port of the loopback and with a directory of this test's own.
/// The process, and where it and its status server, if it has one, say they are.
fn serve(place: &Place, args: &[String]) -> (Process, String, Option<String>) {
    let here: Vec<String> = args
        .iter()
        .map(|word| match word.as_str() {
            "0.0.0.0:7000" | "0.0.0.0:9090" => "127.0.0.1:0".to_owned(),
            "file:/tmp/ringplane" => format!("file:{}", place.path().join("discovery").display()),
            other => other.to_owned(),
        })
        .collect();
    let server = place.start(&here.iter().map(String::as_str).collect::<Vec<_>>());
    let mut line = server.error_line();
    let status = line.strip_prefix("ringplane: status at ").map(str::to_owned);
    if status.is_some() {
        line = server.error_line();
    }
    assert!(line.starts_with("ringplane: serving demo.backend.echo"), "{line}");
    let at = line.split_once(" at ").unwrap().1.split_once(',').unwrap().0.to_owned();
    (server, at, status)
}

/// The first line of what a server of HTTP answers.
fn answered(at: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// The words of every command of the tool, those that an image is run with among them, by the name of the command.
fn commands(named: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    let lines = blocks("sh").join("").replace("\\\n", " ");
    let all = lines.lines().filter_map(|line| {
        let words = words(line);
        // Behind the options of `docker run` stands the name of the image, whose entry point is the tool.
        let tool = words.iter().rposition(|word| word == "ringplane")?;
        let args = words[tool + 1..].to_vec();
        (words[0] == "ringplane" || words[..2] == ["docker", "run"]).then_some(args)
    });
    all.filter(|args| named(&args[0])).collect()
}

#[test]
fn the_commands_for_several_hosts_do_with_addresses_of_one_what_the_page_says() {
    let (servers, callers) = (commands(|name| name == "serve"), commands(|name| name != "serve"));
    assert_eq!((servers.len(), callers.len()), (2, 4), "{servers:?} {callers:?}");
    let (one, other) = (Place::new(), Place::new());
    let (_one, at_one, _) = serve(&one, &servers[0]);
    let (_other, at_other, _) = serve(&other, &servers[1]);
    let nowhere = Place::new();
    for args in callers {
        let args = args.iter().map(|word| {
            let word = word.replace("10.0.0.1:7000", &at_one).replace("10.0.0.3:7000", &at_other);
            word.replace("worker:7000", &at_other)
        });
        let args: Vec<String> = args.collect();
        let ended = nowhere.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        if args[0] == "call" {
            ended.expect_lines(&[r#"{"x":1}"#]);
        } else {
            assert_eq!((ended.code, ended.out.len()), (Some(0), 2), "{ended:?}");
            for at in [&at_one, &at_other] {
                assert!(ended.out.iter().any(|line| line.contains(at.as_str())), "{ended:?}");
            }
        }
    }
}

#[test]
fn the_pod_of_the_manifest_serves_its_probes_are_answered_and_nothing_ends_it_before_its_drain() {
    let [manifest] = blocks("yaml").try_into().unwrap();
    let args: Vec<String> =
        value(&manifest, "args: [", &[']']).split(", ").map(|word| word.trim_matches('"').to_owned()).collect();

    let place = Place::new();
    let (_server, at, status) = serve(&place, &args);
    place.run(&["call", "demo.backend.echo", "1", "--addr", &at]).expect_lines(&["1"]);
    let status = status.expect("the pod has a status server");
    let status = status.trim_start_matches("http://").trim_end_matches('/');
    let probes: Vec<&str> =
        manifest.split("httpGet: { path: ").skip(1).map(|rest| rest.split(',').next().unwrap()).collect();
    assert_eq!(probes, ["/ready", "/ready", "/live"]);
    for path in probes {
        let line = answered(status, path);
        assert_eq!(line, "HTTP/1.1 200 OK", "{path}");
    }

    // The ports that are named are those that it is told to listen on, and probes and the Service name them.
    let ports = [("name: ringplane, containerPort: ", "--listen"), ("name: status, containerPort: ", "--status")];
    for (named, told) in ports {
        let listens = option(&args, told).rsplit_once(':').unwrap().1;
        assert_eq!(value(&manifest, named, &[' ', '}']), listens, "{told}");
    }
    assert_eq!(value(&manifest, "name: ringplane, port: ", &[' ', '}']), "7000");
    assert_eq!(manifest.matches("port: status }").count(), 3);
    assert_eq!(manifest.matches("{ app: worker }").count(), 3, "Service, Deployment and pods mean the same ones");

    let grace = seconds(value(&manifest, "terminationGracePeriodSeconds: ", &['\n']));
    let pause = seconds(value(&manifest, "command: [sleep, \"", &['"']));
    let drain = seconds(option(&args, "--drain-timeout"));
    assert!(grace > pause + drain, "{grace} s of grace, {pause} s before the drain of {drain} s");
    let docker = blocks("sh").join("");
    // That of `serve` without `--drain-timeout`.
    assert!(seconds(value(&docker, "--stop-timeout ", &[' '])) > 30);
}
