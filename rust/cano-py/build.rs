//! Hands the binding facts of its build: the compiler's version, PyO3's, and Python's build flags as `cfg`s.

use std::{env, fs, path::Path, process::Command};

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    println!("cargo:rerun-if-changed=build.rs");

    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        // "rustc 1.85.0 (4d91de4e4 2025-02-17)" -> "1.85.0"
        .and_then(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=CANO_RUSTC_VERSION={version}");

    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    println!("cargo:rerun-if-changed={}", lock.display());
    let pyo3 = fs::read_to_string(lock)
        .ok()
        .and_then(|text| locked_version(&text, "pyo3"))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=CANO_PYO3_VERSION={pyo3}");
}

/// The version that the lock file pins `name` to.
///
/// Read from there because PyO3 does not export its own version.
fn locked_version(lock: &str, name: &str) -> Option<String> {
    let heading = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != heading);
    lines.next()?;
    let version = lines.next()?.strip_prefix("version = \"")?;
    version.strip_suffix('"').map(str::to_owned)
}
