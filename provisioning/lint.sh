#!/bin/sh
# ansible-lint finds ansible on PATH and roles from its working folder; offline, since Galaxy is not reachable everywhere.
set -eu
cd "$(dirname "$0")"
PATH="$PWD/../.venv/bin:$PATH" exec ansible-lint --offline --profile production
