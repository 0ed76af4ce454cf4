#!/bin/sh
# $DO=status: can a scan be made? scan: a full one (hours). threats: what was found, and is it still there?
set -u
LC_ALL=C
export LC_ALL
doing=${DO:-status}

threats() { # "Name: …", "Status: …", "Path: …", a blank line between threats; a history, so with its times
  mdatp threat list 2>/dev/null | tr -d '\000-\011\013-\037\177"\\' | awk -F ': ' '
    function tell() { if (name != "") print "{\"kind\":\"threat\",\"name\":\"" name "\",\"status\":\"" status "\",\"path\":\"" path "\",\"seen\":\"" seen "\"}"
                      name = status = path = seen = "" }
    /^[ ]*Name/ { tell(); name = substr($2, 1, 200) }
    /^[ ]*Status/ { status = substr($2, 1, 60) }
    /^[ ]*(Detection time|Detected)/ { seen = substr($0, index($0, ": ") + 2, 60) }
    /^[ ]*(Path|Detection path|File)/ { path = substr($2, 1, 400) }
    END { tell() }'
}

disks() { # where local file systems are mounted
  awk '$3 ~ /^(ext[234]|xfs|btrfs|zfs|vfat|tmpfs|overlay|f2fs)$/ { print $2 }' /proc/mounts 2>/dev/null | sort -u
}

if command -v mdatp > /dev/null 2>&1; then
  printf '{"kind":"scanner","name":"Microsoft Defender for Endpoint"}\n'
  [ "$doing" = scan ] && { mdatp scan full > /dev/null 2>&1; printf '{"kind":"scanned","exit":%s}\n' "$?"; }
  [ "$doing" != status ] && threats
elif command -v clamscan > /dev/null 2>&1; then
  printf '{"kind":"scanner","name":"ClamAV"}\n'
  if [ "$doing" = scan ]; then # it has no memory: what it finds is what is there now
    found=$(mktemp) || exit 1
    worst=0
    for disk in ${ROOT:-$(disks)}; do
      clamscan -r -i --no-summary --cross-fs=no "$disk" >> "$found" 2>/dev/null
      code=$?
      [ "$code" -gt 1 ] && worst=$code
    done
    sed -n 's/^\(.*\): \(.*\) FOUND$/\2\t\1/p' "$found" | tr -d '\000-\010\013-\037\177"\\' | awk -F '\t' '
      { print "{\"kind\":\"threat\",\"name\":\"" substr($1, 1, 200) "\",\"status\":\"found\",\"path\":\"" substr($2, 1, 400) "\",\"seen\":\"\"}" }'
    rm -f "$found"
    printf '{"kind":"scanned","exit":%s}\n' "$worst"
  fi
fi
printf '{"kind":"end"}\n'
