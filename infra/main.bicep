// Everything but the event subscription: identity, storage without keys, the app, the topic, the Logic
// App and the workflow automation that feed it, and the role for what the code does.
targetScope = 'subscription'

@description('Environment name; part of every generated name.')
@minLength(1)
@maxLength(24)
param environmentName string

@description('Region for all resources. Must support Flex Consumption.')
param location string

@description('Instances of on_alert kept warm (0: none).')
@minValue(0)
@maxValue(10)
param alwaysReady int = 2

@description('Part of the names of owned NSG rules, so that deployments do not meet.')
@maxLength(20)
param deployment string = 'default'

@description('How far the service may go. Begin with simulate.')
@allowed(['notify', 'simulate', 'approve', 'enforce'])
param mode string = 'simulate'

@description('Subscriptions whose machines are looked after; empty: all that the identity can read.')
param subscriptions array = []

@description('Management groups whose machines are looked after, in place of subscriptions. The role reaches this subscription alone: assign it there, too.')
param managementGroups array = []

@description('Tags added to every resource.')
param tags object = {}

@description('May the app switch flushConnection of NSGs? Needed where the policy says cut_live_flows; it is the right to write NSGs whole.')
param cutLiveFlows bool = false

@description('May the app take rogue rules out of Azure Firewalls, and put them back (policy, [firewall])? Without it they are found and told.')
param changeFirewalls bool = false

@description('May machines be looked into from outside: posture, logs?')
param investigate bool = true

@description('Deploy the guest app, which looks inside machines by Run Command, under an identity of its own?')
param guestApp bool = false

@description('May the guest app install critical and security updates after a yes?')
param installUpdates bool = false

@description('May the guest app install the antimalware extension after a yes?')
param installAntimalware bool = false

@description('May the app resolve alerts in Defender when all is done (policy: [investigation] resolve)?')
param resolveAlerts bool = false

@description('Log Analytics workspaces (their GUIDs) in which traces of attackers are looked for.')
param workspaces array = []

@description('A secret of a key vault that holds the channels people are told by; the app identity must be able to read it.')
param notifySecretUri string = ''

var guestQueue = 'guest-investigations'
var token = toLower(uniqueString(subscription().id, environmentName, location))
var allTags = union(tags, { 'azd-env-name': environmentName })

resource rg 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: allTags
}

module app 'modules/app.bicep' = {
  scope: rg
  params: {
    token: token
    location: location
    tags: allTags
    alwaysReady: alwaysReady
    deployment: deployment
    mode: mode
    subscriptions: subscriptions
    managementGroups: managementGroups
    workspaces: workspaces
    guestQueue: guestApp ? guestQueue : ''
    notifySecretUri: notifySecretUri
  }
}

module guest 'modules/guest.bicep' = if (guestApp) {
  scope: rg
  params: {
    token: token
    location: location
    tags: allTags
    storageName: app.outputs.storageAccountName
    queueName: guestQueue
    deployment: deployment
    mode: mode
    insightsName: app.outputs.insightsName
  }
}

module guestRole 'modules/guest-role.bicep' = if (guestApp) {
  params: {
    principalId: guest!.outputs.identityPrincipalId
    installUpdates: installUpdates
    installAntimalware: installAntimalware
  }
}

module responder 'modules/responder-role.bicep' = {
  params: {
    cutLiveFlows: cutLiveFlows
    changeFirewalls: changeFirewalls
    investigate: investigate
    resolveAlerts: resolveAlerts
    principalId: app.outputs.identityPrincipalId
  }
}

module automation 'modules/automation.bicep' = {
  scope: rg
  params: {
    location: location
    tags: allTags
    logicAppId: app.outputs.logicAppId
  }
}

output AZURE_RESOURCE_GROUP string = rg.name
output AZURE_FUNCTION_APP_NAME string = app.outputs.functionAppName
output AZURE_GUEST_APP_NAME string = guestApp ? guest!.outputs.functionAppName : ''
output EVENT_GRID_TOPIC_NAME string = app.outputs.topicName
output STORAGE_ACCOUNT_NAME string = app.outputs.storageAccountName
