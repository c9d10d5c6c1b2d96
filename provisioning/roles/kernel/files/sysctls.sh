#!/bin/sh
# sysctls.sh apply BEFORE NAME=VALUE...   set them, now and at each boot, and note in BEFORE what was there
# sysctls.sh restore BEFORE               give back what BEFORE notes, and remove it
# Prints what it changed. Through /proc, since a minimal host has no sysctl command.
set -eu

boot=/etc/sysctl.d/90-accept-lab.conf
action=$1
before=$2
shift 2

place() {
    echo "/proc/sys/$(echo "$1" | tr . /)"
}

# The kernel separates several numbers by tabs.
current() {
    tr '\t' ' ' <"$(place "$1")"
}

set_to() {
    [ "$(current "$1")" = "$2" ] && return
    echo "$2" >"$(place "$1")"
    echo "$1 = $2"
}

case $action in
apply)
    mkdir -p "$(dirname "$before")"
    for setting in "$@"; do
        name=${setting%%=*}
        grep -q "^$name=" "$before" 2>/dev/null || echo "$name=$(current "$name")" >>"$before"
        set_to "$name" "${setting#*=}"
    done
    wanted=$(printf '%s\n' '# Written by provisioning/roles/kernel.' "$@")
    if [ "$(cat "$boot" 2>/dev/null)" != "$wanted" ]; then
        printf '%s\n' "$wanted" >"$boot"
        echo "$boot"
    fi
    ;;
restore)
    if [ -e "$boot" ]; then
        rm "$boot"
        echo "$boot"
    fi
    if [ -e "$before" ]; then
        while IFS='=' read -r name value; do
            set_to "$name" "$value"
        done <"$before"
        rm "$before"
    fi
    ;;
esac
