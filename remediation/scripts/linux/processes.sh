#!/bin/sh
# Connections, then processes with parent, user, command line and hash, as JSON lines. Reads /proc and nothing else;
# connections of every network namespace that a process is in, so that a container hides none.
set -u
LC_ALL=C
export LC_ALL
tab=$(printf '\t')
hashed=0
mib=0
seen=' '
host=$(readlink -n /proc/1/ns/mnt 2>/dev/null)

command -v timeout > /dev/null 2>&1 || timeout() { shift; "$@"; }

hash_of() { # a process's file, by device and inode: many processes share one. Whoever runs one chooses its size
  at=$(stat -L -c '%d_%i %s' "/proc/$1/exe" 2>/dev/null) || return 0
  size=${at#* }
  at=${at% *}
  case $at$size in *[!0-9_]* | '') return 0 ;; esac
  size=$((size / 1048576))
  eval "hash=\${hash_$at:-}"
  if [ -z "$hash" ] && [ "$hashed" -lt 400 ] && [ "$size" -le 256 ] && [ "$((mib + size))" -le 4096 ]; then
    hashed=$((hashed + 1))
    mib=$((mib + size))
    hash=$(timeout 10 sh -c 'sha256sum < "$1"' - "/proc/$1/exe" 2>/dev/null | cut -c1-64)
    eval "hash_$at=\$hash"
  fi
}

net() { # the connections of its network namespace, once
  space=$(readlink -n "/proc/$1/ns/net" 2>/dev/null)
  case $seen in *" $space "*) return 0 ;; esac
  seen="$seen$space "
  for kind in tcp tcp6 udp udp6; do
    sed -n "2,4000s/^/net$tab$kind /p" "/proc/$1/net/$kind" 2>/dev/null
  done
}

one() {
  pid=$1 name='' ppid='' uid='' hash='' gone=no inside=no
  while IFS=$tab read -r key value _; do
    case $key in
      Name:) name=$value ;;
      PPid:) ppid=$value ;;
      Uid:) uid=$value; break ;;
    esac
  done < "/proc/$pid/status"
  [ -n "$uid" ] || return 0
  exe=$(readlink -n "/proc/$pid/exe" 2>/dev/null | tr '\t\n\r' '   ')
  case $exe in *' (deleted)') gone=yes ;; esac
  cmd=$(tr '\000\t\n\r' '    ' < "/proc/$pid/cmdline" 2>/dev/null | cut -c1-400)
  space=$(readlink -n "/proc/$pid/ns/mnt" 2>/dev/null)
  [ -n "$host" ] && [ -n "$space" ] && [ "$space" != "$host" ] && inside=yes
  [ -n "$exe" ] && hash_of "$pid"
  printf 'process\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' \
    "$pid" "$ppid" "$uid" "$name" "$exe" "$gone" "$hash" "$inside" "$cmd"
}

{
  for p in /proc/[0-9]*; do net "${p#/proc/}"; done
  for p in /proc/[0-9]*; do
    ls -l "$p/fd" 2>/dev/null | sed -n "s/.*socket:\[\([0-9]*\)\].*/fd$tab${p#/proc/}$tab\1/p"
  done
  for p in /proc/[0-9]*; do one "${p#/proc/}" 2>/dev/null; done
} | tr -d '\001-\010\013-\037\177' | sed 's/\\/\\\\/g; s/"/\\"/g' | awk -F '\t' -v self=$$ '
  BEGIN { while ((getline line < "/etc/passwd") > 0) { split(line, f, ":"); user[f[3]] = f[1] } }
  function quoted(s) { return "\"" s "\"" }
  $1 == "net" {
    split($2, f, " "); kind = f[1]; at = f[3]; far = f[4]; st = f[5]; inode = f[11]
    port = at; sub(/^.*:/, "", port)
    if (kind ~ /^tcp/ && st == "0A") listens[port] = 1
    if (far !~ /:0000$/ && far !~ /^0100007F:/ && inode != "0") { remote[inode] = far; local[inode] = port; state[inode] = st; proto[inode] = kind }
  }
  $1 == "fd" && ($3 in remote) {
    print "{\"kind\":\"socket\",\"pid\":" $2 ",\"proto\":" quoted(proto[$3]) ",\"remote\":" quoted(remote[$3]) ",\"state\":" quoted(state[$3]) \
      ",\"inbound\":" ((local[$3] in listens) ? "true" : "false") "}"
  }
  $1 == "process" {
    print "{\"kind\":\"process\",\"pid\":" $2 ",\"ppid\":" ($3 == "" ? 0 : $3) ",\"user\":" quoted(user[$4] == "" ? $4 : user[$4]) \
      ",\"name\":" quoted($5) ",\"exe\":" quoted($6) ",\"deleted\":" ($7 == "yes" ? "true" : "false") ",\"sha256\":" quoted($8) \
      ",\"own\":" (($2 == self || $3 == self) ? "true" : "false") ",\"container\":" ($9 == "yes" ? "true" : "false") ",\"cmd\":" quoted($10) "}"
  }
  END { print "{\"kind\":\"end\"}" }'
