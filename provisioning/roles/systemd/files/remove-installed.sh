#!/bin/sh
# remove-installed.sh FILE    purge the packages, users and folders that install-quietly.sh noted in FILE
set -eu
[ -e "$1" ] || exit 0

export DEBIAN_FRONTEND=noninteractive
apt_get() {
    apt-get --yes --quiet=2 -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

noted() {
    sed -n "s/^$1 //p" "$2" | LC_ALL=C sort -u
}

# A run that was killed may have left packages half way.
[ -z "$(dpkg --audit)" ] || dpkg --configure -a </dev/null >/dev/null 2>&1 || true

# What was installed later may need what came with the lab; it is not ours to remove.
packages=$(noted package "$1")
others=
if [ -n "$packages" ]; then
    # shellcheck disable=SC2086
    others=$(apt_get --simulate purge $packages | sed -n 's/^\(Remv\|Purg\) \([^ ]*\).*/\2/p' |
        grep -vxF "$packages" | sort -u | tr '\n' ' ') || true
fi
if [ -n "$others" ]; then
    echo "packages that came with the lab stay, for the sake of $others"
else
    if [ -n "$packages" ]; then
        # shellcheck disable=SC2086
        apt_get purge $packages >/dev/null
        echo "packages: $(echo "$packages" | tr '\n' ' ')"
    fi
    for user in $(noted user "$1"); do
        if getent passwd "$user" >/dev/null; then
            userdel "$user"
            echo "user: $user"
        fi
    done
    # What a package's own removal leaves: the data of its service.
    for folder in $(noted folder "$1"); do
        if [ -e "$folder" ]; then
            rm -rf "$folder"
            echo "folder: $folder"
        fi
    done
fi
rm "$1"
