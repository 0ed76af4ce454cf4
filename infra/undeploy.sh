#!/bin/sh
# Take the service away, its live blocks first: nobody would lift them afterwards. RESPONDER_KEY (or RESPONDER_TOKEN) is for the
# app's HTTP API, as for `python -m remediation`; your address must be among operatorAddresses. What stays: the account of the
# ledger and the evidence, the logs, and what estate.bicep made at a management group. It may be run again.
set -eu
cd "$(dirname "$0")/.."
: "${AZURE_ENV_NAME:=responder}"
group="rg-$AZURE_ENV_NAME"
name="responder-$AZURE_ENV_NAME"
python=${PYTHON:-.venv/bin/python}

output() { az deployment sub show --name "$name" --query "properties.outputs.$1.value" --output tsv; }
: "${RESPONDER_URL:=$(output RESPONDER_URL)}"
export RESPONDER_URL
ledger=$(output LEDGER_ACCOUNT_NAME)
site=$(output AZURE_FUNCTION_APP_NAME)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

live() { # the ids of the blocks that have not ended; fails where nobody can tell
  "$python" -m remediation blocks --live > "$folder/live" || return 1
  "$python" -c 'import json, sys; print(" ".join(b["id"] for b in json.load(sys.stdin)["blocks"]))' < "$folder/live"
}

# asked of the group, so that "it is not there" is an answer and not a failure to ask
there=$(az resource list --resource-group "$group" --resource-type Microsoft.Web/sites --query "[?name=='$site'].name" --output tsv)
if [ -n "$there" ]; then
  if ! live > /dev/null; then
    echo "the app does not answer you: RESPONDER_KEY or RESPONDER_TOKEN? your address in operatorAddresses?" >&2
    echo "nothing was taken away: its live blocks would stay for good" >&2
    exit 1
  fi
  echo "1 of 4: no alert comes in any more"
  az resource delete --only-show-errors --resource-group "$group" --resource-type Microsoft.Security/automations \
    --name forward-alerts || echo "(none here: where the policy of estate.bicep makes automations, remove its assignment)"

  echo "2 of 4: nothing is blocked any more, and live blocks are lifted"
  "$python" -m remediation pause --lift all --reason "the service is taken away" > /dev/null
  tries=0
  while :; do
    left=$(live)
    [ -z "$left" ] && break
    tries=$((tries + 1))
    if [ "$tries" -gt 20 ]; then
      echo "these blocks are still there: $left" >&2
      echo "look why (python -m remediation blocks), then run this again. Acting is paused; nothing else was taken away" >&2
      exit 1
    fi
    sleep "${PAUSE:-30}"
  done
fi

echo "3 of 4: roles in this subscription"
for principal in $(output RESPONDER_PRINCIPAL_ID) $(output GUEST_PRINCIPAL_ID); do
  az role assignment list --assignee "$principal" --all --query '[].id' --output tsv |
    while IFS= read -r id; do az role assignment delete --ids "$id"; done
done
for kind in responder guest evidence self-test; do
  az role definition list --custom-role-only true --query "[?starts_with(roleName, 'Defender $kind (${ledger#stledger})')].name" \
    --output tsv | while IFS= read -r id; do az role definition delete --name "$id"; done
done

echo "4 of 4: everything in $group but the ledger account and the logs"
round=0
while :; do # what others hang on goes in a later round
  rest=$(az resource list --resource-group "$group" --output tsv \
    --query "[?name!='$ledger' && type!='Microsoft.OperationalInsights/workspaces'].id")
  [ -z "$rest" ] && break
  round=$((round + 1))
  if [ "$round" -gt 6 ]; then
    echo "these could not be deleted:" >&2
    echo "$rest" >&2
    exit 1
  fi
  echo "$rest" | while IFS= read -r id; do az resource delete --only-show-errors --ids "$id" > /dev/null 2>&1 || true; done
done
echo "done. $ledger holds the ledger and the evidence: keep it as long as your rules ask, then: az group delete --name $group"
