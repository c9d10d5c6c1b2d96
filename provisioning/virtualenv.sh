#!/bin/sh
# Make .venv, or add extras to it: virtualenv.sh PYTHON EXTRA...   (for example: virtualenv.sh python3 lab test)
# Run by the Makefile, in the checkout.
set -eu

python=$1
shift

fail() {
    echo "setup: $*" >&2
    exit 2
}

command -v "$python" >/dev/null || fail "there is no $python; install Python 3.11 or newer, or: make PYTHON=/path/to/python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old, 3.11 is needed: make PYTHON=/path/to/a/newer/python"

"$python" -m lab.folder_names "$(pwd -P)" || exit 2

"$python" -c 'import sys, sysconfig; sys.exit(bool(sysconfig.get_config_var("Py_GIL_DISABLED")))' ||
    fail "$python has no GIL, and NiceGUI and Locust cannot be installed there: make PYTHON=/path/to/one/with/the/GIL." \
        "Models run on it: $python -m venv .venv && .venv/bin/pip install -c constraints.txt -e ."

for folder in "$PWD" "$PWD/.venv"; do
    [ ! -e "$folder" ] || [ -w "$folder" ] ||
        fail "$folder belongs to $(ls -ld "$folder" | awk '{ print $3 }'): use sudo, or clone the lab into a folder of yours"
done

# Two at once would undo each other's work: the second waits, and finds it done. The shell's flock is Linux's only.
if [ "${LAB_SETUP_LOCKED:-}" != $$ ]; then
    exec "$python" -c '
import fcntl, os, sys
lock = os.open(".", os.O_RDONLY)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("another setup is at work here: waiting for it", flush=True)
    fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock, True)
os.execvpe("sh", ["sh", *sys.argv[1:]], os.environ | {"LAB_SETUP_LOCKED": str(os.getpid())})
' "$0" "$python" "$@"
fi

is_done() {
    for extra; do
        [ -e ".venv/$extra.stamp" ] && [ -z "$(find pyproject.toml constraints.txt -newer ".venv/$extra.stamp")" ] || return 1
    done
}
if is_done "$@"; then exit 0; fi

# Debian keeps the means to make environments in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        fail "$python cannot make virtual environments; as root: apt-get install $version-venv"
    echo "installing $version-venv"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq --yes --no-install-recommends "$version-venv"; } </dev/null >/dev/null ||
        fail "apt-get could not install $version-venv"
fi

# An environment whose interpreter has gone, or that was interrupted before it had pip, is made anew.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "making .venv"
    "$python" -m venv --clear .venv || fail "$python could not make .venv"
fi

extras=$(echo "$*" | tr ' ' ',')
echo "installing the lab with $extras into .venv (the first time takes a minute)"
.venv/bin/python provisioning/pip_install.py -c constraints.txt -e ".[$extras]" ||
    fail "pip could not install the lab's packages; its message is above"

# The path of the interpreter that pip writes into scripts is not quoted: one with a space and a $ is no path any more.
if ! .venv/bin/lab --version >/dev/null 2>&1; then
    cat >.venv/bin/lab <<'END'
#!/bin/sh
exec "$(dirname "$0")/python" -m lab "$@"
END
    chmod 755 .venv/bin/lab
fi
for extra; do touch ".venv/$extra.stamp"; done
