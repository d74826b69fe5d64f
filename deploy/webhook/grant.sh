#!/bin/sh
# What a payment page, a captcha or a membership list runs when it lets somebody in: asks the issuer
# for a code, and prints it. The same id gives the same code again, so run it again after a failure.
#
#   grant.sh ID TOKENS
#
# TOCYN_ADMIN_SOCKET is the issuer's admin.sock, TOCYN_WEBHOOK_CREDENTIAL a file with the credential
# that attesters.webhook.credential in its settings names. Both are read by this user only.
set -eu
[ $# = 2 ] || { echo "usage: grant.sh ID TOKENS" >&2; exit 2; }
: "${TOCYN_ADMIN_SOCKET:?set it to the path of the admin.sock of the issuer}"
: "${TOCYN_WEBHOOK_CREDENTIAL:?set it to the path of a file with the credential}"
id="$1" tokens="$2" credential="$(cat "$TOCYN_WEBHOOK_CREDENTIAL")"
case "$id" in *[!A-Za-z0-9._:-]* | '') echo "an id has letters, digits and . _ : -" >&2; exit 2 ;; esac
case "$tokens" in *[!0-9]* | '') echo "tokens is a number" >&2; exit 2 ;; esac
# By a file of settings on standard input, so that no list of processes shows the credential.
answer="$(curl --silent --show-error --fail-with-body --config - <<END
unix-socket = "$TOCYN_ADMIN_SOCKET"
url = "http://issuer/v1/grants"
header = "Authorization: Bearer $credential"
header = "Content-Type: application/json"
data = "{\"id\": \"$id\", \"tokens\": $tokens}"
END
)" || { echo "$answer" >&2; exit 1; }
echo "$answer" | sed -n 's/.*"code":"\([^"]*\)".*/\1/p'
