//! The command: start the runner, read what callgrind said, compare, report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use ringplane_benches::cases::table::counted;
use ringplane_benches::counts::{Counts, Difference, TOLERANCE};

use crate::harness;

/// Set in the process that hands over to the runner.
pub(crate) const RUNNING: &str = "RINGPLANE_COUNTS_RUNNING";
/// The release of the crate and its runner; they belong together.
const RUNNER: &str = "0.20.0";

/// Counts and compares, or writes the baseline anew if `RINGPLANE_BLESS` is set.
///
/// # Errors
/// What to tell the user: something is missing, or the counts are not those of the baseline.
pub(crate) fn run() -> Result<(), String> {
    let mut now = Counts { environment: environment()?, ..Counts::default() };
    let baseline = Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines/instructions.json");
    if env::var_os("RINGPLANE_BLESS").is_some() {
        now.instructions = count()?;
        fs::write(&baseline, now.write()).map_err(|error| at(&baseline, &error))?;
        println!("{}: {} functions; read the diff", baseline.display(), now.instructions.len());
        return Ok(());
    }
    let text = fs::read_to_string(&baseline).map_err(|error| at(&baseline, &error))?;
    let before = Counts::read(&text).map_err(|error| format!("{}: {error}", baseline.display()))?;
    if before.environment == now.environment {
        now.instructions = count()?;
    }
    report(&before.compare(&now), now.instructions.len())
}

fn report(differences: &[Difference], functions: usize) -> Result<(), String> {
    let (bad, good): (Vec<_>, Vec<_>) = differences.iter().partition(|difference| difference.fails());
    good.iter().for_each(|difference| println!("{difference}"));
    if !good.is_empty() {
        println!("write the baseline anew so that it holds the gain: RINGPLANE_BLESS=1 bash .ci/run counts");
    }
    println!("{functions} functions counted, {} beyond {TOLERANCE} % up or not comparable", bad.len());
    if bad.is_empty() {
        return Ok(());
    }
    let mut text: Vec<String> = bad.iter().map(ToString::to_string).collect();
    text.push(
        "instruction counts differ from benches/baselines/instructions.json; if that is meant to be: \
         RINGPLANE_BLESS=1 bash .ci/run counts, and say why in the commit"
            .into(),
    );
    Err(text.join("\n"))
}

/// Runs every counted row once under callgrind.
fn count() -> Result<BTreeMap<String, u64>, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    // target/release/deps/counts-HASH
    let target = program.ancestors().nth(3).ok_or("the program is not in a target folder")?;
    let home = target.join("counts");
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&home, &error)),
        _ => {}
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ci-tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).chain([installed]).collect();
    let runner = Command::new(&program)
        .arg("--bench")
        .env(RUNNING, "1")
        .env("PATH", env::join_paths(folders).map_err(|error| error.to_string())?)
        .env("GUNGRAUN_HOME", &home)
        .env("GUNGRAUN_PARALLEL", "auto")
        .output()
        .map_err(|error| at(&program, &error))?;
    if !runner.status.success() {
        let (out, err) = (String::from_utf8_lossy(&runner.stdout), String::from_utf8_lossy(&runner.stderr));
        return Err(format!("{out}{err}\nneeded: valgrind, and cargo install gungraun-runner@{RUNNER} --locked"));
    }
    let cases = counted().into_iter().enumerate();
    cases.map(|(nth, case)| Ok((case.name, total(&home.join(harness::output(nth)))?))).collect()
}

/// The instructions in one output of callgrind.
fn total(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|error| at(file, &error))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.ok_or_else(|| format!("{}: callgrind did not finish", file.display()))?;
    total.trim().parse().map_err(|_| format!("{}: more than instructions was counted", file.display()))
}

/// What counts depend on besides our code. Valgrind shows programs a processor of its own, of two kinds.
fn environment() -> Result<BTreeMap<String, String>, String> {
    let rustc = said("rustc", &["-vV"])?;
    let field = |name: &str| rustc.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    #[cfg(target_arch = "x86_64")]
    let processor = if std::arch::is_x86_feature_detected!("avx2") { "with AVX2" } else { "without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let processor = env::consts::ARCH;
    Ok(BTreeMap::from([
        ("rustc".into(), field("release: ")),
        ("target".into(), field("host: ")),
        ("valgrind".into(), said("valgrind", &["--version"])?),
        ("C library".into(), said("getconf", &["GNU_LIBC_VERSION"])?),
        ("processor".into(), processor.into()),
    ]))
}

fn said(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program} is needed: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} {}: {}", arguments.join(" "), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
