#!/bin/sh
# remove-installed.sh FILE    purge the packages and delete the users that install-quietly.sh noted in FILE
set -eu
[ -e "$1" ] || exit 0

export DEBIAN_FRONTEND=noninteractive
packages=$(sed -n 's/^package //p' "$1")
if [ -n "$packages" ]; then
    # shellcheck disable=SC2086
    apt-get purge --yes --quiet=2 $packages </dev/null >/dev/null
    echo "packages: $(echo "$packages" | tr '\n' ' ')"
fi
for user in $(sed -n 's/^user //p' "$1"); do
    if getent passwd "$user" >/dev/null; then
        userdel "$user"
        echo "user: $user"
    fi
done
# What a package's own removal leaves: the data of its service.
for folder in $(sed -n 's/^folder //p' "$1"); do
    if [ -e "$folder" ]; then
        rm -rf "$folder"
        echo "folder: $folder"
    fi
done
rm "$1"
