#!/bin/sh
# unpack.sh HOME CHECKSUM PIP_ARGUMENT...
# Unpack HOME/source.tar.gz and make HOME/venv with the packages at their pinned versions; prints what it changed.
# A stamp says what is complete, so that whatever interrupts this is made good by the next run.
set -eu

# Users of the units' own read what is made here, whatever umask this host's root has.
umask 022
cd "$1"
chmod a+rx .
unpacked=source/.unpacked-$2
shift 2
# What an interrupted run has begun here may still be at work.
exec 9<.
flock 9

if [ ! -e "$unpacked" ]; then
    rm -rf source.new
    mkdir source.new
    tar -xzf source.tar.gz -C source.new
    # The servers' own users may not write here, and would compile it anew at each start.
    python3 -m compileall -q source.new
    touch "source.new/${unpacked#source/}"
    rm -rf source
    mv source.new source
    echo "unpacked the code"
fi

[ $# -gt 0 ] || exit 0  # a host that runs none of our code
requirements=$(cat source/constraints.txt source/requirements/* | cksum | cut -d ' ' -f 1)
installed=venv/.has-$(echo "$requirements $*" | cksum | cut -d ' ' -f 1)
if [ ! -e "$installed" ]; then
    # pip runs from the distribution's wheel: installing it into the environment would take longer than all the rest.
    python3 -m venv --without-pip venv
    cd source
    ../venv/bin/python "$(echo /usr/share/python-wheels/pip-*.whl)/pip" install --quiet --disable-pip-version-check \
        --no-warn-script-location --no-cache-dir --only-binary=:all: --constraint constraints.txt "$@"
    cd ..
    touch "$installed"
    echo "installed the Python packages"
fi
