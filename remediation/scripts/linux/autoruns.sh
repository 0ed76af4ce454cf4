#!/bin/sh
# What starts by itself, as JSON lines. Reads only: units, timers, cron, rc, profile, ld.so.preload, keys.
set -u
LC_ALL=C
export LC_ALL

entry() { # kind, path, what it starts
  [ -f "$2" ] && [ -r "$2" ] || return 0
  path=$(printf '%s' "$2" | tr '\t\n\r' '   ' | cut -c1-400)
  about=$(stat -L -c '%Y %U' "$2" 2>/dev/null)
  digest=$(sha256sum < "$2" 2>/dev/null | cut -c1-64)
  what=$(printf '%s' "$3" | tr '\000\t\n\r' '    ' | cut -c1-600)
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$path" "${about%% *}" "${about#* }" "$digest" "$what"
}

lines() { # what of a file is no comment
  grep -v '^[[:space:]]*\(#\|$\)' "$1" 2>/dev/null | head -n 40
}

{
  for f in /etc/systemd/system/*.service /etc/systemd/system/*.timer /etc/systemd/system/*.wants/* \
    /run/systemd/system/*.service /usr/local/lib/systemd/system/*.service /root/.config/systemd/user/*.service \
    /home/*/.config/systemd/user/*.service; do
    entry unit "$f" "$(grep -h '^\(ExecStart\|ExecStartPre\|ExecStartPost\|OnCalendar\|OnBootSec\)' "$f" 2>/dev/null)"
  done
  for f in /etc/crontab /etc/cron.d/* /etc/cron.hourly/* /etc/cron.daily/* /etc/cron.weekly/* /etc/cron.monthly/* \
    /var/spool/cron/* /var/spool/cron/crontabs/* /var/spool/cron/atjobs/*; do
    entry cron "$f" "$(lines "$f")"
  done
  for f in /etc/rc.local /etc/rc.d/rc.local /etc/init.d/*; do entry rc "$f" "$(lines "$f" | head -n 5)"; done
  for f in /etc/profile /etc/profile.d/* /etc/bash.bashrc /etc/environment /root/.bashrc /root/.profile \
    /home/*/.bashrc /home/*/.profile /home/*/.bash_profile; do
    entry profile "$f" "$(lines "$f" | head -n 5)"
  done
  entry preload /etc/ld.so.preload "$(lines /etc/ld.so.preload)"
  for f in /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys; do
    entry keys "$f" "$(lines "$f" | sed 's/.*[[:space:]]//' | head -n 20)"
  done
} | tr -d '\001-\010\013-\037\177' | sed 's/\\/\\\\/g; s/"/\\"/g' | awk -F '\t' '
  { print "{\"kind\":\"" $1 "\",\"path\":\"" $2 "\",\"modified\":" ($3 == "" ? 0 : $3) ",\"owner\":\"" $4 \
      "\",\"sha256\":\"" $5 "\",\"what\":\"" $6 "\"}" }
  END { print "{\"kind\":\"end\"}" }'
