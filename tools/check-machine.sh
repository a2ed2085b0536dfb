#!/bin/sh
# Says, in one sentence, what this machine lacks to build cano, and how to get it. Exits 1 if something is missing.
#   check-machine.sh PYTHON
set -u
python=$1

missing() {
    printf 'cano: %s\n' "$1" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    missing "Python 3.11 or newer is needed, and '$python' is not one: install it (Debian: apt install python3 python3-venv; macOS: brew install python) or name yours with 'make PYTHON=/path/to/python3'."
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    missing "'$python' has no venv module: install it (Debian: apt install python3-venv)."
cargo --version >/dev/null 2>&1 ||
    missing "cargo (Rust 1.94 or newer) is needed to build the native engine, and was not found or does not run: install it with rustup, or from your system's packages where they are new enough (macOS: brew install rust)."
rust=$(rustc --version 2>/dev/null | sed 's/^rustc 1\.\([0-9]*\)\..*/\1/')
[ "${rust:-0}" -ge 94 ] 2>/dev/null ||
    missing "Rust 1.94 or newer is needed, and this is '$(rustc --version 2>&1 | head -n 1)': update it ('rustup update stable')."
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 ||
    missing "a C linker is needed to build the native engine: install one (Debian: apt install gcc libc6-dev; macOS: xcode-select --install)."
