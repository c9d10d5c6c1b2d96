#!/bin/sh
# Install Debian packages without starting their services: Prometheus's own would take port 9090.
# Usage: install-quietly.sh PACKAGE...    Prints what it installed, or one line that says why it cannot (exit 1).
# LAB_INSTALLED, if set, is a file that notes what comes with them, so that all of it can be removed again.
set -u

guard=/usr/sbin/policy-rc.d
mark="written by accept-lab's install-quietly.sh"

refuse() {
    echo "$*"
    exit 1
}

installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]
}

# A package that is there already keeps its service as it is.
for package in "$@"; do
    shift
    installed "$package" || set -- "$@" "$package"
done
[ $# -gt 0 ] || exit 0

[ "$(id -u)" = 0 ] || refuse "this user is not root; ask root to install: $*"
command -v apt-get >/dev/null || refuse "no apt-get here; install by your system's means: $*"

# What an interrupted run has begun here may still be at work.
exec 9</usr/sbin
flock 9

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

export DEBIAN_FRONTEND=noninteractive
# A new host's own updates hold the lock for minutes.
apt_get() {
    apt-get --yes --quiet=2 --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" </dev/null 2>&1
}

# Before anything is installed, so that an interrupted run has noted it, too. A package's service has a user and
# folders of its name; what was there before is not ours.
note() {
    for package in "$@"; do
        echo "package $package"
        getent passwd "$package" >/dev/null || echo "user $package"
        for folder in /etc /var/lib /var/log /var/cache; do
            [ -e "$folder/$package" ] || echo "folder $folder/$package"
        done
    done >>"$LAB_INSTALLED"
}

install() {
    plan=$(apt_get --simulate install "$@") || { echo "$plan"; return 1; }
    if [ -n "${LAB_INSTALLED:-}" ]; then
        mkdir -p "$(dirname "$LAB_INSTALLED")"
        # shellcheck disable=SC2046
        note $(echo "$plan" | sed -n 's/^Inst \([^ ]*\) (.*/\1/p')
    fi
    apt_get install "$@"
}

# A run that was killed may have left packages half way.
[ -z "$(dpkg --audit)" ] || dpkg --configure -a </dev/null >/dev/null 2>&1
# A fresh machine has no package lists yet.
output=$(install "$@" || { apt_get update && install "$@"; }) ||
    refuse "apt-get could not install $*: $(printf '%s' "$output" | tail -n 1)"
echo "$*"

# Nor may the services start at the next boot. Packages without a service have nothing to disable.
if command -v systemctl >/dev/null; then
    for package in "$@"; do
        systemctl disable --quiet "$package" 2>/dev/null || true
    done
fi
