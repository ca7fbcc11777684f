// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command lines: printed as a person would type them, then run.

use std::env;
use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where the project is, and where its builds go.
pub(crate) struct Project {
    /// The repository's root; every command line is run from here.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, as cargo says; below the root it is relative, for
    /// lines that are easier to read.
    pub(crate) target: PathBuf,
    /// How long `cargo xtask fuzz` runs.
    pub(crate) fuzz_seconds: u32,
    /// Whether `cargo xtask bench` is to take a tenth of its time.
    pub(crate) quick: bool,
}

impl Project {
    pub(crate) fn find() -> Result<Project> {
        // Cargo sets the variable for `cargo run`, and it is right also where
        // the checkout was moved after this program was built.
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir
            .parent()
            .context("xtask has no parent folder")?
            .to_path_buf();
        // The environment and several files can name the folder: cargo knows.
        let line = CommandLine::cargo("metadata --format-version 1 --no-deps");
        let output = line.output(&root)?;
        ensure!(output.success, "`{line}`: {}", output.stderr);
        let metadata: Value = serde_json::from_str(&output.stdout)?;
        let target = metadata["target_directory"].as_str();
        let target = Path::new(target.context("cargo names no target folder")?);
        let target = target.strip_prefix(&root).unwrap_or(target).to_path_buf();
        Ok(Project {
            root,
            target,
            fuzz_seconds: 60,
            quick: false,
        })
    }

    /// A target folder of its own for builds with other flags, so that they do
    /// not throw away what the ordinary ones built.
    pub(crate) fn target_for(&self, name: &str) -> String {
        self.target.join(name).to_string_lossy().into_owned()
    }

    /// The target folder as a path that does not depend on the current folder.
    pub(crate) fn absolute_target(&self, name: &str) -> PathBuf {
        self.root.join(&self.target).join(name)
    }
}

/// One command line.
#[derive(Clone)]
pub(crate) struct CommandLine {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl CommandLine {
    pub(crate) fn new(program: impl Into<String>) -> CommandLine {
        CommandLine {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// `cargo` with the arguments of a line without quotes.
    pub(crate) fn cargo(line: &str) -> CommandLine {
        CommandLine::new("cargo").args(line.split_whitespace())
    }

    pub(crate) fn args<S: Into<String>>(
        mut self,
        arguments: impl IntoIterator<Item = S>,
    ) -> CommandLine {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> CommandLine {
        self.environment.push((name, value.into()));
        self
    }

    /// Prints the line, runs it with its output shown, and says whether it succeeded.
    pub(crate) fn run(&self, root: &Path) -> Result<ExitStatus> {
        println!("$ {self}");
        self.command(root)
            .status()
            .with_context(|| format!("cannot start `{}`", self.program))
    }

    /// Like [`CommandLine::run`], and counts for each test program the tests that
    /// passed, as it says in its closing line.
    pub(crate) fn run_counting(&self, root: &Path) -> Result<(ExitStatus, Vec<usize>)> {
        println!("$ {self}");
        let mut child = self
            .command(root)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.program))?;
        let mut counts = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = String::from_utf8_lossy(&line?).into_owned();
                println!("{line}");
                counts.extend(passed_in(&line));
            }
        }
        Ok((child.wait()?, counts))
    }

    /// Runs the line without showing it, and returns what it printed.
    pub(crate) fn output(&self, root: &Path) -> Result<Output> {
        let output = self
            .command(root)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start `{}`", self.program))?;
        Ok(Output {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Whether the line can be started and succeeds: how a tool is looked for.
    pub(crate) fn succeeds(&self, root: &Path) -> bool {
        self.output(root).is_ok_and(|output| output.success)
    }

    fn command(&self, root: &Path) -> Command {
        // The cargo that runs this program is the one to go on with, also
        // where `cargo` is not on the path.
        let program = match self.program.as_str() {
            "cargo" => env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")),
            other => OsString::from(other),
        };
        let mut command = Command::new(program);
        command.args(&self.arguments).current_dir(root);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }
}

/// What a command printed.
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Display for CommandLine {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(formatter, "{name}={} ", quoted(value))?;
        }
        write!(formatter, "{}", quoted(&self.program))?;
        for argument in &self.arguments {
            write!(formatter, " {}", quoted(argument))?;
        }
        Ok(())
    }
}

/// The count in a line such as `test result: ok. 3 passed; 0 failed; ...`.
fn passed_in(line: &str) -> Option<usize> {
    let words = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    words.split_once(" passed;")?.0.parse().ok()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, passed_in};

    #[test]
    fn passed_tests_are_counted_from_the_closing_line() {
        let line = "test result: ok. 37 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(passed_in(line), Some(37));
        assert_eq!(passed_in(&line.replace("ok", "FAILED")), Some(37));
        assert_eq!(passed_in("37 passed; 0 failed"), None);
    }

    #[test]
    fn command_line_is_printed_as_a_shell_takes_it() {
        let line = CommandLine::cargo("test -p pasid")
            .env("RUSTFLAGS", "--cfg loom")
            .args(["it's", ""]);
        assert_eq!(
            line.to_string(),
            r"RUSTFLAGS='--cfg loom' cargo test -p pasid 'it'\''s' ''"
        );
    }
}
