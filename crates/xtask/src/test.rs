//! `cargo xtask test`: every test, on a fresh machine too, and a closing line that counts them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::bail;

use crate::counts::{Counts, run_libtest};
use crate::programs::{self, Program};
use crate::steps::{Steps, cargo, succeed};
use crate::{plugins, target_dir};

/// Where the tests of `tests/peers` write what runners do not show: `skip<TAB>program<TAB>test` when
/// a program is missing, `note<TAB>text` for the end.
const REPORT: &str = "xtask-test-report.txt";

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct TestArgs {
    /// A peer program that is not installed is a failure instead of a skipped test.
    #[arg(long)]
    require_peers: bool,
    /// Run only tests whose names contain this.
    filter: Option<String>,
}

/// Builds what the tests need and runs them all.
///
/// # Errors
/// When a build or a test fails, or a peer is missing that is required.
pub(crate) fn test(root: &Path, args: &TestArgs) -> anyhow::Result<()> {
    let missing: Vec<Program> = programs::ALL
        .into_iter()
        .filter(|program| program.find().is_none())
        .collect();
    if args.require_peers && !missing.is_empty() {
        bail!("peers are required and missing: {}", named(&missing));
    }

    let mut steps = Steps::new(5);
    steps.begin("the sample plugins and the guests that tests load");
    plugins::build_plugins(root)?;
    steps.begin("the tests, and the waypost command that some of them start");
    // The whole workspace at once: building one package alone would compile the shared
    // dependencies a second time, with that package's features only.
    succeed(cargo(root).args(["build", "--workspace", "--bins", "--tests"]))?;

    let report = target_dir(root).join(REPORT);
    std::fs::write(&report, "")?;
    steps.begin("all tests of the workspace");
    let (status, mut counts) = run_tests(root, args, &report)?;
    steps.begin("the examples in the documentation");
    let mut doc_tests = cargo(root);
    doc_tests.args(["test", "--workspace", "--doc", "--quiet"]);
    doc_tests.args(
        args.filter
            .iter()
            .flat_map(|filter| ["--", filter.as_str()]),
    );
    let (doc_status, doc_counts) = run_libtest(&mut doc_tests)?;
    counts.add(doc_counts);
    steps.begin("the SDK and the sample plugins, as far as they run without a relay");
    let mut statuses = vec![status, doc_status];
    for manifest in plugins::tested_on_host(root)? {
        let mut command = cargo(root);
        command.args(["test", "--quiet", "--locked", "--manifest-path"]);
        command
            .arg(&manifest)
            .env("CARGO_TARGET_DIR", plugins::target_dir(root));
        let filter = args.filter.iter();
        command.args(filter.flat_map(|filter| ["--", filter.as_str()]));
        let (status, plugin_counts) = run_libtest(&mut command)?;
        counts.add(plugin_counts);
        statuses.push(status);
    }

    let report = std::fs::read_to_string(&report)?;
    for note in report
        .lines()
        .filter_map(|line| line.strip_prefix("note\t"))
    {
        println!("{note}");
    }
    close(counts, &read_skipped(&report), &missing);
    let failed = statuses.into_iter().find(|status| !status.success());
    match failed {
        Some(status) => bail!("tests failed ({status})"),
        None => Ok(()),
    }
}

/// With cargo-nextest when it is there (one process a test, time limits), else with cargo alone.
fn run_tests(root: &Path, args: &TestArgs, report: &Path) -> anyhow::Result<(ExitStatus, Counts)> {
    let mut command = cargo(root);
    command.env("WAYPOST_TEST_REPORT", report);
    if args.require_peers {
        command.env("WAYPOST_REQUIRE_PEERS", "1");
    }
    if has_nextest(root) {
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--no-tests",
            "pass",
        ]);
        command.args(&args.filter);
        let junit = target_dir(root).join("nextest/default/junit.xml");
        // An old report must not be taken for this run's.
        drop(std::fs::remove_file(&junit));
        let status = command.status()?;
        // Without a report nothing ran, and the status says why (a build that failed).
        let counts = match Counts::read_junit(&junit) {
            Ok(counts) => counts,
            Err(_) if !status.success() => Counts::default(),
            Err(error) => return Err(error),
        };
        return Ok((status, counts));
    }
    println!("      cargo-nextest is not installed: running with cargo test");
    command.args([
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--no-fail-fast",
    ]);
    command.args(
        args.filter
            .iter()
            .flat_map(|filter| ["--", filter.as_str()]),
    );
    run_libtest(&mut command)
}

fn has_nextest(root: &Path) -> bool {
    cargo(root)
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// How many tests each missing program cost.
fn read_skipped(report: &str) -> BTreeMap<String, usize> {
    let mut skipped = BTreeMap::new();
    for line in report.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        if let ["skip", program, _test] = words[..] {
            *skipped.entry(program.to_owned()).or_insert(0) += 1;
        }
    }
    skipped
}

/// The closing line. A skipped test has returned early, so its runner took it for passed.
fn close(mut counts: Counts, skipped: &BTreeMap<String, usize>, missing: &[Program]) {
    let skipped_count: usize = skipped.values().sum();
    counts.passed = counts.passed.saturating_sub(skipped_count);
    counts.skipped += skipped_count;
    for program in missing {
        println!(
            "skipped: {} tests need {}, which is not installed (Debian: {})",
            skipped.get(program.name).copied().unwrap_or(0),
            program.name,
            program.package
        );
    }
    let total = counts.passed + counts.failed + counts.skipped;
    println!(
        "{total} tests: {} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
}

fn named(programs: &[Program]) -> String {
    let names: Vec<String> = programs
        .iter()
        .map(|program| format!("{} (Debian: {})", program.name, program.package))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_skipped_tests_by_program() {
        let skipped =
            read_skipped("skip\tswaks\ta::b\nnote\tx\nskip\tsmtp-sink\tc\nskip\tswaks\td\n");
        assert_eq!(skipped["swaks"], 2);
        assert_eq!(skipped["smtp-sink"], 1);
        assert_eq!(skipped.len(), 2);
    }
}
