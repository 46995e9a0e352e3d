#!/usr/bin/env bash
# Starts a server with the example configuration, says what to try, and stops it on Ctrl-C.
#
# usage: scripts/run.sh SERVER_BINARY
#
# Listeners and store can be moved by the server's own environment variables, for instance
# POSTBACKD_SERVER__LISTEN=127.0.0.1:18080.
set -euo pipefail
cd "$(dirname "$0")/.."

server=${1:?usage: scripts/run.sh SERVER_BINARY}
config=${POSTBACKD_CONFIG:-examples/postbackd.toml}
public=${POSTBACKD_SERVER__LISTEN:-127.0.0.1:8080}
admin=${POSTBACKD_ADMIN__LISTEN:-127.0.0.1:9090}
store=${POSTBACKD_STORE__PATH:-data}
[[ "$store" == /* ]] || store="$(dirname "$config")/$store"

# Succeeds if GET /readyz answers 200; by bash alone, so that no client is needed.
ready() {
    local status
    exec 3<>"/dev/tcp/${admin%:*}/${admin##*:}" || return 1
    printf 'GET /readyz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$admin" >&3
    read -r _ status _ <&3 || true
    exec 3<&- 3>&-
    [[ "${status:-}" == 200 ]]
}

if ready 2>/dev/null; then
    echo "a server answers at $admin already: stop it, or move this one's listeners" >&2
    exit 1
fi

# A terminal sends Ctrl-C to the server, too; a second request to stop changes nothing.
"$server" serve --config "$config" &
pid=$!
trap 'kill -TERM "$pid" 2>/dev/null || true' INT TERM

# Waits for the server however often a signal interrupts the wait; exits with its code.
finish() {
    local code=0
    while kill -0 "$pid" 2>/dev/null; do wait "$pid" || true; done
    wait "$pid" || code=$?
    exit "$code"
}

for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || finish
    if ready 2>/dev/null; then
        cat <<WALK

Ready. In another terminal, from this folder:

  curl -i 'http://$public/click?offer=spring&aff=pub-7&sub1=mail'
  CLICK=\$(curl -s 'http://$public/click?offer=spring&aff=pub-7&redirect=false' | sed 's/.*"click_id":"\([^"]*\)".*/\1/')
  curl -i "http://$public/postback?click_id=\$CLICK&event=sale&txn_id=A-\$(date +%s)&amount=120.00&currency=USD"

What is known of that click (the token is in $store/admin.token):

  curl -s -H "Authorization: Bearer \$(cat $store/admin.token)" "http://$admin/api/v1/trace/\$CLICK"

Ctrl-C stops the server.

WALK
        finish
    fi
    sleep 0.1
done
echo "the server is not ready after 10 seconds" >&2
kill -TERM "$pid" 2>/dev/null || true
finish
