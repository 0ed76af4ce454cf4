#!/bin/sh
# Infrastructure, code, event subscriptions: in that order, with az alone. Doing it twice changes nothing.
# AZURE_ENV_NAME and AZURE_LOCATION say what and where; what else differs from the defaults is in main.bicepparam.
set -eu
cd "$(dirname "$0")/.."
: "${AZURE_ENV_NAME:=responder}" "${AZURE_LOCATION:=westeurope}"
export AZURE_ENV_NAME AZURE_LOCATION
name="responder-$AZURE_ENV_NAME"

for tool in az zip; do
  command -v "$tool" > /dev/null 2>&1 || { echo "$tool is needed" >&2; exit 2; }
done
az account show --output none 2>/dev/null || { echo "sign in first: az login" >&2; exit 2; }

echo "1 of 3: infrastructure of $AZURE_ENV_NAME in $AZURE_LOCATION"
az deployment sub create --only-show-errors --output none --name "$name" --location "$AZURE_LOCATION" \
  --parameters infra/main.bicepparam

output() { az deployment sub show --name "$name" --query "properties.outputs.$1.value" --output tsv; }
AZURE_RESOURCE_GROUP=$(output AZURE_RESOURCE_GROUP)
AZURE_FUNCTION_APP_NAME=$(output AZURE_FUNCTION_APP_NAME)
AZURE_GUEST_APP_NAME=$(output AZURE_GUEST_APP_NAME)
EVENT_GRID_TOPIC_NAME=$(output EVENT_GRID_TOPIC_NAME)
STORAGE_ACCOUNT_NAME=$(output STORAGE_ACCOUNT_NAME)
export AZURE_RESOURCE_GROUP AZURE_FUNCTION_APP_NAME EVENT_GRID_TOPIC_NAME STORAGE_ACCOUNT_NAME

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
zip -q -r "$folder/app.zip" function_app.py host.json requirements.txt remediation -x '*/__pycache__/*'
for app in $AZURE_FUNCTION_APP_NAME $AZURE_GUEST_APP_NAME; do
  echo "2 of 3: code of $app"
  az functionapp deployment source config-zip --only-show-errors --output none --build-remote true \
    --resource-group "$AZURE_RESOURCE_GROUP" --name "$app" --src "$folder/app.zip"
done

echo "3 of 3: event subscriptions"
./infra/subscribe.sh
echo "deployed: https://$AZURE_FUNCTION_APP_NAME.azurewebsites.net (docs/deploy.md: how to see that it works)"
