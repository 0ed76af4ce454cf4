#!/bin/sh
# $DO=status: can a scan be made? scan: a full one (hours). threats: what was found, and is it still there?
set -u
LC_ALL=C
export LC_ALL
doing=${DO:-status}

clean() { tr -d '\000-\037\177"\\' | cut -c1-400; }

if command -v mdatp > /dev/null 2>&1; then
  printf '{"kind":"scanner","name":"Microsoft Defender for Endpoint"}\n'
  [ "$doing" = scan ] && { mdatp scan full > /dev/null 2>&1; printf '{"kind":"scanned","exit":%s}\n' "$?"; }
  if [ "$doing" != status ]; then # "Name: …", "Status: …", "Path: …", a blank line between threats
    mdatp threat list 2>/dev/null | tr -d '\000-\010\013-\037\177"\\' | awk -F ': ' '
      function tell() { if (name != "") print "{\"kind\":\"threat\",\"name\":\"" name "\",\"status\":\"" status "\",\"path\":\"" path "\"}"
                        name = status = path = "" }
      /^[ ]*Name/ { tell(); name = substr($2, 1, 200) }
      /^[ ]*Status/ { status = substr($2, 1, 60) }
      /^[ ]*(Path|Detection path|File)/ { path = substr($2, 1, 400) }
      END { tell() }'
  fi
elif command -v clamscan > /dev/null 2>&1; then
  printf '{"kind":"scanner","name":"ClamAV"}\n'
  if [ "$doing" != status ]; then # it has no memory: what it finds now is what is there now
    clamscan -r -i --no-summary --cross-fs=no "${ROOT:-/}" 2>/dev/null | sed -n 's/^\(.*\): \(.*\) FOUND$/\2\t\1/p' \
      | tr -d '\000-\010\013-\037\177"\\' | awk -F '\t' '
      { print "{\"kind\":\"threat\",\"name\":\"" substr($1, 1, 200) "\",\"status\":\"found\",\"path\":\"" substr($2, 1, 400) "\"}" }'
    printf '{"kind":"scanned","exit":0}\n'
  fi
fi
printf '{"kind":"end"}\n'
