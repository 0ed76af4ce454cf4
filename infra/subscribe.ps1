# As subscribe.sh, for azd on Windows.
$ErrorActionPreference = 'Stop'
Set-Location $PSScriptRoot
foreach ($name in 'AZURE_RESOURCE_GROUP', 'AZURE_FUNCTION_APP_NAME', 'EVENT_GRID_TOPIC_NAME', 'STORAGE_ACCOUNT_NAME') {
    if (-not [Environment]::GetEnvironmentVariable($name)) {
        throw "$name is not set: it is an output of infra/main.bicep (azd env get-values)"
    }
}
$wanted = 'on_alert', 'on_tick', 'on_firewall_change'
for ($try = 1; ; $try++) {
    $there = az functionapp function list --resource-group $env:AZURE_RESOURCE_GROUP --name $env:AZURE_FUNCTION_APP_NAME --query '[].name' --output tsv
    $missing = $wanted | Where-Object { $one = $_; -not ($there | Where-Object { $_ -like "*/$one" }) }
    if (-not $missing) { break }
    if ($try -ge 20) {
        throw "the app $env:AZURE_FUNCTION_APP_NAME does not show these functions yet: $missing. Deploy the code first (azd deploy); if it is there, look at the app's log for what keeps it from being indexed, then run this again"
    }
    Write-Output "waiting for $missing to be indexed ($try of 20)"
    Start-Sleep -Seconds 15
}
az deployment group create --only-show-errors --output none --resource-group $env:AZURE_RESOURCE_GROUP --name event-subscriptions `
    --template-file event-subscription.bicep --parameters topicName=$env:EVENT_GRID_TOPIC_NAME functionAppName=$env:AZURE_FUNCTION_APP_NAME storageAccountName=$env:STORAGE_ACCOUNT_NAME existingSystemTopic=$env:EXISTING_SYSTEM_TOPIC
if ($LASTEXITCODE -ne 0) { throw 'the event subscriptions could not be made' }
Write-Output "subscribed: alerts and ticks of $env:EVENT_GRID_TOPIC_NAME, changes of firewalls in the subscription"
