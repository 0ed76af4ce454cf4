#!/bin/sh
# Live connections with the attackers ($ATTACKERS, separated by commas), in every network namespace that a process is in;
# with $CUT=yes they are ended.
set -u
LC_ALL=C
export LC_ALL
cut=${CUT:-no}

has() { command -v "$1" > /dev/null 2>&1 && printf true || printf false; }

spaces() { # a process of each network namespace; our own first
  seen=" $(readlink -n /proc/self/ns/net 2>/dev/null) "
  printf 'self\n'
  [ "$(has nsenter)" = true ] && [ "$(id -u)" = 0 ] || return 0
  for p in /proc/[0-9]*; do
    space=$(readlink -n "$p/ns/net" 2>/dev/null)
    [ -n "$space" ] || continue
    case $seen in *" $space "*) continue ;; esac
    seen="$seen$space "
    printf '%s\n' "${p#/proc/}"
  done
}

within() { # a process, a command: run in its network
  where=$1
  shift
  if [ "$where" = self ]; then "$@"; else nsenter -t "$where" -n "$@"; fi
}

flows() { # word, address
  for pid in $(spaces); do
    listens=$(within "$pid" ss -Htln 2>/dev/null | awk '{ sub(/^.*:/, "", $4); printf " %s ", $4 }')
    within "$pid" ss -Htun state all 2>/dev/null | awk -v word="$1" -v wanted="$2" -v listens="$listens" '
      { peer = $6; sub(/:[0-9]*$/, "", peer); gsub(/[][]/, "", peer); sub(/^::ffff:/, "", peer); sub(/%.*$/, "", peer)
        port = $5; sub(/^.*:/, "", port)
        if (tolower(peer) == tolower(wanted))
          print "{\"kind\":\"" word "\",\"address\":\"" wanted "\",\"state\":\"" $2 "\",\"local\":\"" $5 "\",\"peer\":\"" $6 \
            "\",\"inbound\":" (index(listens, " " port " ") ? "true" : "false") "}" }'
  done
}

printf '{"kind":"tools","ss":%s,"conntrack":%s,"uid":%s}\n' "$(has ss)" "$(has conntrack)" "$(id -u)"
for address in $(printf '%s' "${ATTACKERS:-}" | tr ',' ' '); do
  case $address in *[!0-9a-fA-F.:]*) continue ;; esac
  flows before "$address"
  if [ "$cut" = yes ]; then
    for pid in $(spaces); do
      within "$pid" ss -K dst "$address" > /dev/null 2>&1
      within "$pid" ss -K src "$address" > /dev/null 2>&1
      within "$pid" conntrack -D -d "$address" > /dev/null 2>&1
      within "$pid" conntrack -D -s "$address" > /dev/null 2>&1
    done
    flows after "$address"
  fi
done
printf '{"kind":"end"}\n'
