#!/bin/sh
# What starts by itself, as JSON lines. Reads only: units, timers, cron, udev, rc, profiles, ld.so.preload, keys. Of each file
# first the lines that fetch, hide or run from where anyone may write, wherever they stand in it, then its beginning.
# Many of these files belong to users, and this runs as root: nothing but plain files is read, and of each so much and so long.
set -u
LC_ALL=C
export LC_ALL
most=131072
odd='curl |wget |base64 -d|/dev/tcp/|/tmp/|/var/tmp/|/dev/shm/|nc -|python[0-9.]* -c|perl -e|eval '

command -v timeout > /dev/null 2>&1 || timeout() { shift; "$@"; }

text() { # a plain file, joined where lines continue; of a large one its beginning and its end
  [ -f "$1" ] && [ -r "$1" ] || return 0
  {
    timeout 5 head -c "$most" "$1"
    [ "$(stat -L -c '%s' "$1")" -le "$most" ] || { printf '\n(a large file)\n'; timeout 5 tail -c "$most" "$1"; }
  } 2>/dev/null | tr -d '\000' | sed -e ':a' -e '/\\$/N; s/\\\n//; ta'
}

entry() { # kind, path, what it starts
  [ -f "$2" ] && [ -r "$2" ] || return 0
  path=$(printf '%s' "$2" | tr '\t\n\r' '   ' | cut -c1-400)
  about=$(stat -L -c '%Y %Z %U' "$2" 2>/dev/null)
  digest=''
  [ "$(stat -L -c '%s' "$2" 2>/dev/null || echo 0)" -gt 16777216 ] || digest=$(timeout 5 sh -c 'sha256sum < "$1"' - "$2" 2>/dev/null | cut -c1-64)
  what=$(printf '%s' "$3" | tr '\000\t\n\r' '    ' | cut -c1-700)
  # shellcheck disable=SC2086
  set -- "$1" $about
  changed=${2:-0}
  [ "${3:-0}" -gt "$changed" ] 2>/dev/null && changed=$3 # the inode's time is harder to forge
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$path" "$changed" "${4:-}" "$digest" "$what"
}

lines() { # what of a file is no comment, continued lines joined, the odd ones first
  said=$(text "$1" | grep -v '^[[:space:]]*\(#\|$\)') || return 0
  printf '%s\n' "$said" | grep -E "$odd" | head -n 10
  printf '%s\n' "$said" | head -n "${2:-20}"
}

unit() {
  entry unit "$1" "$(text "$1" | grep '^[[:space:]]*\(ExecStart\|ExecStartPre\|ExecStartPost\|OnCalendar\|OnBootSec\)')"
}

{
  for f in /etc/systemd/system/*.service /etc/systemd/system/*.timer /etc/systemd/system/*.wants/* \
    /etc/systemd/system/*.service.d/*.conf /etc/systemd/user/*.service /run/systemd/system/*.service \
    /usr/local/lib/systemd/system/*.service; do
    unit "$f"
  done
  # of the units that packages bring, those that have changed lately
  find /usr/lib/systemd/system /lib/systemd/system -name '*.service' -ctime -30 2>/dev/null | sort -u | head -n 100 \
    | while IFS= read -r f; do unit "$f"; done
  for f in /etc/crontab /etc/cron.d/* /etc/cron.hourly/* /etc/cron.daily/* /etc/cron.weekly/* /etc/cron.monthly/* \
    /var/spool/cron/* /var/spool/cron/crontabs/* /var/spool/cron/atjobs/*; do
    entry cron "$f" "$(lines "$f" 40)"
  done
  for f in /etc/rc.local /etc/rc.d/rc.local /etc/init.d/* /etc/update-motd.d/*; do entry rc "$f" "$(lines "$f" 5)"; done
  for f in /etc/udev/rules.d/*; do entry udev "$f" "$(text "$f" | grep -E 'RUN|PROGRAM' | head -n 20)"; done
  for f in /etc/profile /etc/profile.d/* /etc/bash.bashrc /etc/environment; do entry profile "$f" "$(lines "$f" 5)"; done
  entry preload /etc/ld.so.preload "$(lines /etc/ld.so.preload)"
  cut -d: -f6 /etc/passwd 2>/dev/null | sort -u | while IFS= read -r home; do
    case $home in '' | / | /proc* | /dev*) continue ;; esac
    for f in "$home/.bashrc" "$home/.profile" "$home/.bash_profile" "$home/.zshrc"; do entry profile "$f" "$(lines "$f" 5)"; done
    for f in "$home"/.config/systemd/user/*.service; do unit "$f"; done
    entry keys "$home/.ssh/authorized_keys" "$(lines "$home/.ssh/authorized_keys" | sed 's/.*[[:space:]]//' | head -n 20)"
  done
} | tr -d '\001-\010\013-\037\177' | sed 's/\\/\\\\/g; s/"/\\"/g' | awk -F '\t' '
  { print "{\"kind\":\"" $1 "\",\"path\":\"" $2 "\",\"modified\":" ($3 ~ /^[0-9]+$/ ? $3 : 0) ",\"owner\":\"" $4 \
      "\",\"sha256\":\"" $5 "\",\"what\":\"" $6 "\"}" }
  END { print "{\"kind\":\"end\"}" }'
