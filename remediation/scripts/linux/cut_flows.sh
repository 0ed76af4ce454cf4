#!/bin/sh
# Live connections with the attackers ($ATTACKERS, separated by commas); with $CUT=yes they are ended.
set -u
LC_ALL=C
export LC_ALL
cut=${CUT:-no}

flows() { # word, address
  ss -Htn state all 2>/dev/null | awk -v word="$1" -v wanted="$2" '
    { peer = $5; sub(/:[0-9]*$/, "", peer); gsub(/[][]/, "", peer); sub(/^::ffff:/, "", peer)
      if (tolower(peer) == tolower(wanted))
        print "{\"kind\":\"" word "\",\"address\":\"" wanted "\",\"state\":\"" $1 "\",\"local\":\"" $4 "\",\"peer\":\"" $5 "\"}" }'
}

has() { command -v "$1" > /dev/null 2>&1 && printf true || printf false; }

printf '{"kind":"tools","ss":%s,"conntrack":%s,"uid":%s}\n' "$(has ss)" "$(has conntrack)" "$(id -u)"
for address in $(printf '%s' "${ATTACKERS:-}" | tr ',' ' '); do
  case $address in *[!0-9a-fA-F.:]*) continue ;; esac
  flows before "$address"
  if [ "$cut" = yes ]; then
    ss -K dst "$address" > /dev/null 2>&1
    conntrack -D -d "$address" > /dev/null 2>&1
    conntrack -D -s "$address" > /dev/null 2>&1
    flows after "$address"
  fi
done
printf '{"kind":"end"}\n'
