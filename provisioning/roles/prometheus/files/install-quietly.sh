#!/bin/sh
# Install Debian packages without starting their services: Prometheus's own would take port 9090.
# Usage: install-quietly.sh PACKAGE...    Prints one line that says why when it cannot (exit 1).
# LAB_INSTALLED, if set, is a file that notes what came with them, so that all of it can be removed again.
set -u

guard=/usr/sbin/policy-rc.d
mark="written by accept-lab's install-quietly.sh"

refuse() {
    echo "$*"
    exit 1
}

[ "$(id -u)" = 0 ] || refuse "this user is not root; ask root to install: $*"
command -v apt-get >/dev/null || refuse "no apt-get here; install by your system's means: $*"

# invoke-rc.d asks policy-rc.d whether a service may start; 101 means no. Ours denies only while this
# script lives and removes itself afterwards, so that it does no harm even after a kill -9.
if [ ! -e "$guard" ] || grep -q "$mark" "$guard"; then
    trap 'rm -f "$guard"' EXIT
    trap 'exit 1' HUP INT TERM
    cat >"$guard" <<END
#!/bin/sh
# $mark
kill -0 $$ 2>/dev/null && exit 101
rm -f "\$0"
END
    chmod 755 "$guard"
else
    "$guard" prometheus start >/dev/null 2>&1
    [ $? = 101 ] || refuse "this machine's own $guard lets services start; install by hand: $*"
fi

# Packages, users and folders of services, as they are now, a line each.
inventory() {
    dpkg-query --show --showformat='package ${Package} ${db:Status-Abbrev}\n' | sed -n 's/ ii *$//p'
    getent passwd | sed 's/^\([^:]*\):.*/user \1/'
    find /etc /var/lib /var/log /var/cache -mindepth 1 -maxdepth 1 -type d | sed 's/^/folder /'
}

export DEBIAN_FRONTEND=noninteractive
[ -z "${LAB_INSTALLED:-}" ] || before=$(inventory | LC_ALL=C sort)
install() {
    apt-get install --yes --quiet=2 --no-install-recommends "$@" </dev/null 2>&1
}
# A fresh machine has no package lists yet.
output=$(install "$@" || { apt-get update --quiet=2 2>&1 && install "$@"; }) ||
    refuse "apt-get could not install $*: $(printf '%s' "$output" | tail -n 1)"
if [ -n "${LAB_INSTALLED:-}" ]; then
    mkdir -p "$(dirname "$LAB_INSTALLED")"
    earlier=$(mktemp)
    printf '%s\n' "$before" >"$earlier"
    inventory | LC_ALL=C sort | LC_ALL=C comm -13 "$earlier" - >>"$LAB_INSTALLED"
    rm "$earlier"
fi

# Nor may the services start at the next boot. Packages without a service have nothing to disable.
if command -v systemctl >/dev/null; then
    for package in "$@"; do
        systemctl disable --quiet "$package" 2>/dev/null || true
    done
fi
