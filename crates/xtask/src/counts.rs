//! How many tests ran: read from what the test runners write.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::Context as _;

/// Tests by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Ran and held.
    pub(crate) passed: usize,
    /// Ran and did not hold.
    pub(crate) failed: usize,
    /// Did not run.
    pub(crate) skipped: usize,
}

impl Counts {
    /// Adds what another run counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Reads one line of libtest: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn from_libtest_line(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("test result:")?;
        let number_before = |word: &str| {
            rest.split(['.', ';'])
                .find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<usize>().ok())
        };
        Some(Self {
            passed: number_before("passed")?,
            failed: number_before("failed")?,
            skipped: number_before("ignored")?,
        })
    }

    /// Reads the `<testsuites …>` head of nextest's JUnit report.
    ///
    /// Retried tests are counted once there, by their last outcome.
    pub(crate) fn from_junit(report: &str) -> Option<Self> {
        let head = report.split("<testsuites").nth(1)?.split('>').next()?;
        let attribute = |name: &str| {
            let value = head
                .split(&format!(" {name}=\""))
                .nth(1)?
                .split('"')
                .next()?;
            value.parse::<usize>().ok()
        };
        let failed = attribute("failures")? + attribute("errors")?;
        Some(Self {
            passed: attribute("tests")?.checked_sub(failed)?,
            failed,
            skipped: 0,
        })
    }

    /// Reads nextest's report from its place in the target directory.
    pub(crate) fn read_junit(path: &Path) -> anyhow::Result<Self> {
        let report = std::fs::read_to_string(path)
            .with_context(|| format!("nextest left no report at {}", path.display()))?;
        Self::from_junit(&report)
            .with_context(|| format!("{} is not the report we know", path.display()))
    }
}

/// Runs a libtest-based command, shows what it prints and adds its results up.
///
/// # Errors
/// When the program cannot be started.
pub(crate) fn run_libtest(command: &mut Command) -> anyhow::Result<(ExitStatus, Counts)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {command:?}"))?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            if let Some(result) = Counts::from_libtest_line(&line) {
                counts.add(result);
            }
        }
    }
    Ok((child.wait()?, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_libtest() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 3 filtered \
                    out; finished in 0.10s";
        assert_eq!(
            Counts::from_libtest_line(line),
            Some(Counts {
                passed: 12,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(Counts::from_libtest_line("test a::b ... ok"), None);
    }

    #[test]
    fn reads_junit() {
        let report = "<?xml version=\"1.0\"?>\n<testsuites name=\"nextest-run\" tests=\"10\" \
                      failures=\"1\" errors=\"1\" uuid=\"x\" time=\"1.0\">\n<testsuite \
                      name=\"a\" tests=\"4\" failures=\"0\" errors=\"0\">";
        assert_eq!(
            Counts::from_junit(report),
            Some(Counts {
                passed: 8,
                failed: 2,
                skipped: 0
            })
        );
        assert_eq!(Counts::from_junit("<nothing/>"), None);
    }
}
