#!/bin/sh
# PostgreSQL's programs for the tests of the job store, from the system's packages where this user may install them.
command -v initdb >/dev/null 2>&1 && exit 0
for folder in /usr/lib/postgresql/*/bin; do
    [ -x "$folder/initdb" ] && exit 0
done
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null 2>&1 && { [ -z "$as_root" ] || $as_root true 2>/dev/null; }; then
    echo "Installing PostgreSQL for the tests of the job store ..."
    $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null && exit 0
fi
echo "No PostgreSQL here and none could be installed: its tests will be skipped."
