#!/bin/sh
# Makes an environment to measure in and says where its interpreter is: benches/prepare.sh PYTHON EXTRA...
#
# What is measured is the wheel, built as for a release for that interpreter and installed beside the packages of the
# extras of pyproject.toml, in target/bench; nothing in .venv changes, and no other build is disturbed.
set -eu
cd "$(dirname "$0")/.."
interpreter=$(command -v "$1") || { echo "cano: there is no interpreter '$1' to measure on" >&2; exit 1; }
shift
tag=$("$interpreter" -c 'import sys, sysconfig as s
print("cpython-%d.%d%s" % (*sys.version_info[:2], "t" if s.get_config_var("Py_GIL_DISABLED") else ""))')
home=target/bench/$tag
python=$home/bin/python
[ -x "$python" ] || "$interpreter" -m venv "$home" >&2

rm -rf "$home/wheel"
PYO3_PYTHON=$interpreter .venv/bin/maturin build --quiet --release --locked --interpreter "$interpreter" \
    --target-dir target/bench/cargo --out "$home/wheel" >&2
pip="$python -m pip --disable-pip-version-check --quiet install"
$pip --no-deps --force-reinstall "$home"/wheel/*.whl >&2
# One by one: what has no build for this interpreter is left out here, and its rows with it, with the reason.
for extra in "$@"; do
    .venv/bin/python tools/extra.py "$extra" | while read -r requirement; do
        $pip "$requirement" >&2 || echo "cano: left out: $requirement" >&2
    done
done
echo "$python"
