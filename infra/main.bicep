// Everything but the event subscriptions: identities, storage without keys, the apps, the topic, the Logic Apps and the workflow
// automation that feed it, what watches over them, and the roles for what the code does. docs/deploy.md has the commands.
targetScope = 'subscription'

import { responderCapabilities, guestCapabilities } from 'modules/capabilities.bicep'

@description('Environment name; part of the resource group and of every generated name.')
@minLength(1)
@maxLength(24)
param environmentName string

@description('Region for all resources. Must support Flex Consumption.')
param location string

@description('Tags added to every resource.')
param tags object = {}

// --- how it acts ---

@description('How far the service may go. enforce: it acts by itself on each alert, as the policy says. A first week in simulate shows what it would have done.')
@allowed(['notify', 'simulate', 'approve', 'enforce'])
param mode string = 'enforce'

@description('Part of the names of owned rules, so that deployments do not meet.')
@minLength(1)
@maxLength(20)
param deployment string = 'default'

@description('Subscriptions whose machines are looked after; empty: all that the identity can read.')
param subscriptions string[] = []

@description('Management groups whose machines are looked after, in place of subscriptions. The role is assigned there by estate.bicep.')
param managementGroups string[] = []

@description('Alert severities forwarded. The alert about a command and control centre is Medium: High alone misses it.')
param severities ('high' | 'medium' | 'low' | 'informational')[] = ['high', 'medium']

@description('Beginnings of alert types forwarded, such as Network_; empty: all. The policy leaves out what it has no row for.')
param alertTypes string[] = []

@description('Forward this subscription\'s alerts? Off where estate.bicep does it for all.')
param forwardAlerts bool = true

// --- what it may do (each a capability of the role) ---

@description('Assign the role in this subscription? Off where estate.bicep assigns it at a management group.')
param assignRole bool = true

@description('May the app write its rules in network security groups?')
param block bool = true

@description('May it write its rule in WAF policies, where the subnet of a gateway has no network security group? Azure has the policy written whole.')
param waf bool = true

@description('May it switch flushConnection of network security groups (policy: cut_live_flows)? That is the right to write them whole.')
param cutLiveFlows bool = false

@description('May it take rogue rules out of Azure Firewalls, and put them back (policy, [firewall])? Without it they are found and told.')
param changeFirewalls bool = false

@description('May machines be looked into from outside: posture, logs?')
param investigate bool = true

@description('Send a sample alert the whole way each day, and look each hour whether Defender sends alerts on?')
param selfTest bool = true

@description('May it resolve alerts in Defender when all is done (policy: [investigation] resolve)?')
param resolveAlerts bool = false

@description('Deploy the guest app, which looks inside machines by Run Command (root on every machine in scope), under an identity of its own?')
param guestApp bool = false

@description('May the guest app install critical and security updates after a yes?')
param installUpdates bool = false

@description('May the guest app install antimalware after a yes?')
param installAntimalware bool = false

@description('Log Analytics workspaces (their GUIDs) in which traces of attackers are looked for.')
param workspaces string[] = []

// --- people ---

@description('A secret of a key vault with the channels people are told by (RESPONDER_NOTIFY), as its address; the app identity must be able to read it. Empty: none.')
param notifySecretUri string = ''

@description('Addresses of who is woken when the service itself does not work (Azure Monitor). Empty: seen in the portal alone.')
param mailAddresses string[] = []

@description('Make a topic on which other systems hear escalations?')
param escalationTopic bool = false

@description('Client id of the Entra application for sign-in to the HTTP API (docs/deploy.md). Empty: a function key is an operator who cannot approve.')
param signInClientId string = ''

@description('Addresses (CIDR) from which operators reach the HTTP API. Empty: nobody does; Event Grid always does.')
@maxLength(100)
param operatorAddresses string[] = []

// --- how it runs ---

@description('Instances of on_alert kept warm; two avoid a drained one. 0: none.')
@minValue(0)
@maxValue(10)
param alwaysReady int = 2

@description('Private networking: the apps leave by a network of their own and reach storage by private endpoints alone, but for the account that machines write to.')
param privateNetwork bool = false

@description('Address space of that network, /24 at least.')
param addressSpace string = '10.250.0.0/24'

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 90

// --- evidence ---

@description('Days for which nobody can change or delete evidence; 0: no such promise. Only a new ledger account takes it.')
@minValue(0)
@maxValue(3650)
param evidenceImmutableDays int = 0

@description('Lock that promise: nobody can shorten it any more.')
param evidenceImmutableLocked bool = false

@description('Days after which evidence moves to cool storage.')
@minValue(1)
param evidenceCoolAfterDays int = 30

@description('Days after which evidence is deleted; 0: never. At least evidenceImmutableDays.')
@minValue(0)
param evidenceDeleteAfterDays int = 0

var token = toLower(uniqueString(subscription().id, environmentName, location))
var allTags = union(tags, { 'azd-env-name': environmentName })
var names = {
  site: 'func-${token}'
  guest: 'func-guest-${token}'
  package: 'app-package'
  guestPackage: 'app-package-guest'
  incoming: 'evidence-incoming'
  deadLetters: 'deadletter'
  commitQueue: 'commit'
  queue: 'investigations'
  guestQueue: 'guest-investigations'
}
var operators = [
  for (one, i) in operatorAddresses: { name: 'operators-${i}', priority: 200 + i, tag: 'Default', addresses: one }
]
// what both apps are told
var common = {
  RESPONDER_DEPLOYMENT: deployment
  RESPONDER_MODE: mode
}

resource rg 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: allTags
}

module monitor 'modules/monitor.bicep' = {
  scope: rg
  params: {
    token: token
    location: location
    tags: allTags
    retentionDays: logRetentionDays
  }
}

module hostStorage 'modules/host-storage.bicep' = {
  scope: rg
  params: {
    name: 'st${token}'
    location: location
    tags: allTags
    packageContainers: [names.package]
    containers: [names.deadLetters]
    queues: guestApp ? [names.commitQueue, names.queue, names.guestQueue] : [names.commitQueue, names.queue]
    private: privateNetwork
  }
}

// apart from the other: who can write a package runs as the app, and this one runs as root on machines
module guestStorage 'modules/host-storage.bicep' = if (guestApp) {
  name: 'guest-storage'
  scope: rg
  params: {
    name: 'stguest${token}'
    location: location
    tags: allTags
    packageContainers: [names.guestPackage]
    containers: [names.incoming]
    weekly: names.incoming
    queues: []
    private: false // machines of all networks write what scripts say to it, each by an address of its own
  }
}

module ledger 'modules/ledger.bicep' = {
  scope: rg
  params: {
    name: 'stledger${token}'
    location: location
    tags: allTags
    private: privateNetwork
    immutableDays: evidenceImmutableDays
    immutableLocked: evidenceImmutableLocked
    coolAfterDays: evidenceCoolAfterDays
    deleteAfterDays: evidenceDeleteAfterDays
    workspaceId: monitor.outputs.workspaceId
  }
}

module evidenceRole 'modules/evidence-role.bicep' = {
  params: {
    token: token
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  scope: rg
  params: {
    token: token
    location: location
    tags: allTags
    addressSpace: addressSpace
    accounts: [
      { name: hostStorage.outputs.name, id: hostStorage.outputs.id, services: ['blob', 'queue', 'table'] }
      { name: ledger.outputs.name, id: ledger.outputs.id, services: ['blob', 'table'] }
    ]
  }
}

module responder 'modules/function-app.bicep' = {
  name: 'responder'
  scope: rg
  params: {
    name: names.site
    planName: 'plan-${token}'
    identityName: 'id-${token}'
    location: location
    tags: allTags
    serviceName: 'responder'
    hostStorageName: hostStorage.outputs.name
    queueStorageName: hostStorage.outputs.name
    packageContainer: names.package
    ledgerName: ledger.outputs.name
    evidenceRoleId: evidenceRole.outputs.id
    evidenceContainer: ledger.outputs.evidenceContainer
    insightsName: monitor.outputs.insightsName
    alwaysReady: alwaysReady > 0 ? [{ name: 'function:on_alert', instanceCount: alwaysReady }] : []
    allowed: concat(
      [{ name: 'event-grid', priority: 100, tag: 'ServiceTag', addresses: 'AzureEventGrid' }],
      operators
    )
    subnetId: privateNetwork ? network!.outputs.appSubnetId : ''
    settings: union(common, {
      SWEEP_SCHEDULE: '0 * * * * *'
      COMMIT_QUEUE: names.commitQueue
      INVESTIGATION_QUEUE: names.queue
      GUEST_QUEUE: guestApp ? names.guestQueue : ''
      RESPONDER_ROLE: 'responder'
      RESPONDER_INVESTIGATE: investigate ? 'on' : 'off'
      RESPONDER_WORKSPACES: join(workspaces, ',')
      RESPONDER_NOTIFY: empty(notifySecretUri) ? '' : '@Microsoft.KeyVault(SecretUri=${notifySecretUri})'
      RESPONDER_LINKS: 'https://${names.site}.azurewebsites.net'
      RESPONDER_SUBSCRIPTIONS: join(subscriptions, ',')
      RESPONDER_MANAGEMENT_GROUPS: join(managementGroups, ',')
      SELFTEST_WORKFLOW: selfTest ? intake.outputs.logicAppId : ''
      ESCALATION_TOPIC: escalationTopic ? escalations!.outputs.endpoint : ''
    })
  }
}

module guest 'modules/function-app.bicep' = if (guestApp) {
  name: 'guest'
  scope: rg
  params: {
    name: names.guest
    planName: 'plan-guest-${token}'
    identityName: 'id-guest-${token}'
    location: location
    tags: allTags
    serviceName: 'guest'
    hostStorageName: guestStorage!.outputs.name
    queueStorageName: hostStorage.outputs.name
    packageContainer: names.guestPackage
    ledgerName: ledger.outputs.name
    evidenceRoleId: evidenceRole.outputs.id
    evidenceContainer: ledger.outputs.evidenceContainer
    handsOutAddresses: true
    insightsName: monitor.outputs.insightsName
    subnetId: privateNetwork ? network!.outputs.guestSubnetId : ''
    settings: union(common, {
      INVESTIGATION_QUEUE: names.guestQueue
      RESPONDER_ROLE: 'guest'
      RESPONDER_MAY_INSTALL: join(concat(['none'], installUpdates ? ['updates'] : [], installAntimalware ? ['antimalware'] : []), ',')
    })
  }
}

module intake 'modules/intake.bicep' = {
  scope: rg
  params: {
    token: token
    location: location
    tags: allTags
    workspaceId: monitor.outputs.workspaceId
    hostStorageName: hostStorage.outputs.name
    deadLetterContainer: names.deadLetters
  }
}

module selfTestRole 'modules/self-test-role.bicep' = if (selfTest) {
  params: {
    token: token
  }
}

module maySelfTest 'modules/may-self-test.bicep' = if (selfTest) {
  scope: rg
  params: {
    logicAppName: intake.outputs.logicAppName
    roleId: selfTestRole!.outputs.id
    principalId: responder.outputs.principalId
    identityId: responder.outputs.identityId
  }
}

module escalations 'modules/escalations.bicep' = if (escalationTopic) {
  scope: rg
  params: {
    token: token
    location: location
    tags: allTags
  }
}

module mayEscalate 'modules/may-escalate.bicep' = if (escalationTopic) {
  scope: rg
  params: {
    topicName: escalations!.outputs.name
    principalId: responder.outputs.principalId
    identityId: responder.outputs.identityId
  }
}

module watch 'modules/watch.bicep' = {
  scope: rg
  params: {
    token: token
    location: location
    tags: allTags
    workspaceId: monitor.outputs.workspaceId
    topicId: intake.outputs.topicId
    logicAppIds: [intake.outputs.logicAppId, intake.outputs.tickerId]
    selfTest: selfTest
    mailAddresses: mailAddresses
  }
}

module signIn 'modules/sign-in.bicep' = if (!empty(signInClientId)) {
  scope: rg
  params: {
    siteName: responder.outputs.name
    clientId: signInClientId
  }
}

module automation 'modules/automation.bicep' = if (forwardAlerts) {
  scope: rg
  params: {
    location: location
    tags: allTags
    logicAppId: intake.outputs.logicAppId
    severities: severities
    alertTypes: alertTypes
  }
}

module responderRole 'modules/role.bicep' = if (assignRole) {
  name: 'responder-role'
  params: {
    kind: 'responder'
    capabilities: responderCapabilities(block, waf, cutLiveFlows, changeFirewalls, investigate, selfTest, resolveAlerts)
    principalId: responder.outputs.principalId
    identityId: '${rg.id}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-${token}'
    token: token
  }
}

module guestRole 'modules/role.bicep' = if (assignRole && guestApp) {
  name: 'guest-role'
  params: {
    kind: 'guest'
    capabilities: guestCapabilities(installUpdates, installAntimalware)
    principalId: guest!.outputs.principalId
    identityId: '${rg.id}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-guest-${token}'
    token: token
  }
}

// what the second step (event-subscription.bicep), azd and estate.bicep take
output AZURE_RESOURCE_GROUP string = rg.name
output AZURE_FUNCTION_APP_NAME string = names.site
output AZURE_GUEST_APP_NAME string = guestApp ? names.guest : ''
output EVENT_GRID_TOPIC_NAME string = intake.outputs.topicName
output STORAGE_ACCOUNT_NAME string = hostStorage.outputs.name
output LEDGER_ACCOUNT_NAME string = ledger.outputs.name
output LOGIC_APP_ID string = intake.outputs.logicAppId
output RESPONDER_PRINCIPAL_ID string = responder.outputs.principalId
output RESPONDER_IDENTITY_ID string = responder.outputs.identityId
output GUEST_PRINCIPAL_ID string = guestApp ? guest!.outputs.principalId : ''
output GUEST_IDENTITY_ID string = guestApp ? guest!.outputs.identityId : ''
output LOG_WORKSPACE_ID string = monitor.outputs.workspaceId
output RESPONDER_URL string = 'https://${names.site}.azurewebsites.net'
