#!/bin/sh
# Subscribe the functions to their events: after the code is there, for Event Grid looks for them. Doing it twice changes nothing.
# Needs AZURE_RESOURCE_GROUP, AZURE_FUNCTION_APP_NAME, EVENT_GRID_TOPIC_NAME and STORAGE_ACCOUNT_NAME: outputs of main.bicep, which
# azd puts into the environment. EXISTING_SYSTEM_TOPIC names the subscription's system topic where there is one.
set -eu
cd "$(dirname "$0")"
for name in AZURE_RESOURCE_GROUP AZURE_FUNCTION_APP_NAME EVENT_GRID_TOPIC_NAME STORAGE_ACCOUNT_NAME; do
  eval "value=\${$name:-}"
  if [ -z "$value" ]; then
    echo "$name is not set: it is an output of infra/main.bicep (azd env get-values, or make deploy)" >&2
    exit 2
  fi
done

wanted='on_alert on_tick on_firewall_change'
tries=0
while :; do
  there=$(az functionapp function list --resource-group "$AZURE_RESOURCE_GROUP" --name "$AZURE_FUNCTION_APP_NAME" \
    --query '[].name' --output tsv)
  missing=''
  for one in $wanted; do
    case "$there" in *"/$one"*) ;; *) missing="$missing $one" ;; esac
  done
  [ -z "$missing" ] && break
  tries=$((tries + 1))
  if [ "$tries" -ge 20 ]; then
    echo "the app $AZURE_FUNCTION_APP_NAME does not show these functions yet:$missing" >&2
    echo "deploy the code first (azd deploy, or make deploy); if it is there, look at the app's log for what keeps it from" >&2
    echo "being indexed, then run this again" >&2
    exit 1
  fi
  echo "waiting for$missing to be indexed ($tries of 20)"
  sleep "${PAUSE:-15}"
done

az deployment group create --only-show-errors --output none \
  --resource-group "$AZURE_RESOURCE_GROUP" --name event-subscriptions --template-file event-subscription.bicep \
  --parameters topicName="$EVENT_GRID_TOPIC_NAME" functionAppName="$AZURE_FUNCTION_APP_NAME" \
  storageAccountName="$STORAGE_ACCOUNT_NAME" existingSystemTopic="${EXISTING_SYSTEM_TOPIC:-}"
echo "subscribed: alerts and ticks of $EVENT_GRID_TOPIC_NAME, changes of firewalls in the subscription"
