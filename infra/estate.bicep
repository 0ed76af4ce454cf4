// For an estate of many subscriptions: the roles at a management group, and a policy that gives every subscription below it the
// workflow automation that forwards its alerts. After main.bicep, whose outputs it takes.
//   az deployment mg create -m <management group> -l <region> -f infra/estate.bicep -p …
targetScope = 'managementGroup'

import { actionsOf, responderCapabilities, guestCapabilities } from 'modules/capabilities.bicep'

@description('Region of the policy assignment and its identity.')
param location string

@description('RESPONDER_PRINCIPAL_ID of the first step.')
param responderPrincipalId string

@description('RESPONDER_IDENTITY_ID of the first step.')
param responderIdentityId string

@description('GUEST_PRINCIPAL_ID of the first step; empty: no guest app.')
param guestPrincipalId string = ''

@description('GUEST_IDENTITY_ID of the first step; empty: no guest app.')
param guestIdentityId string = ''

@description('May the app write its rules in network security groups?')
param block bool = true

@description('May it write its rule in WAF policies, where the subnet of a gateway has no network security group?')
param waf bool = true

@description('May it switch flushConnection (policy: cut_live_flows)? That is the right to write network security groups whole.')
param cutLiveFlows bool = false

@description('May it take rogue rules out of Azure Firewalls, and put them back?')
param changeFirewalls bool = false

@description('May machines be looked into from outside: posture, logs?')
param investigate bool = true

@description('May it see whether Defender sends its alerts on, in every subscription (the self-test)?')
param selfTest bool = true

@description('May it resolve alerts in Defender when all is done?')
param resolveAlerts bool = false

@description('May the guest app install critical and security updates after a yes?')
param installUpdates bool = false

@description('May the guest app install antimalware after a yes?')
param installAntimalware bool = false

@description('Give every subscription the automation that forwards alerts?')
param forwardAlerts bool = true

@description('LOGIC_APP_ID of the first step.')
param logicAppId string

@description('Severities forwarded. The alert about a command and control centre is Medium: High alone misses it.')
param severities ('High' | 'Medium' | 'Low')[] = ['High', 'Medium']

@description('Resource group, made in every subscription, that holds the automation.')
param automationResourceGroup string = 'rg-defender-responder-forwarding'

var scope = managementGroup().id
var kinds = concat(
  [
    {
      kind: 'responder'
      principalId: responderPrincipalId
      identityId: responderIdentityId
      words: responderCapabilities(block, waf, cutLiveFlows, changeFirewalls, investigate, selfTest, resolveAlerts)
    }
  ],
  empty(guestPrincipalId)
    ? []
    : [
        {
          kind: 'guest'
          principalId: guestPrincipalId
          identityId: guestIdentityId
          words: guestCapabilities(installUpdates, installAntimalware)
        }
      ]
)

resource roles 'Microsoft.Authorization/roleDefinitions@2022-04-01' = [
  for one in kinds: {
    name: guid(scope, 'defender-${one.kind}')
    properties: {
      roleName: 'Defender ${one.kind} (${managementGroup().name})'
      description: 'What the Defender responder (${one.kind}) does: ${join(one.words, ', ')}.'
      type: 'CustomRole'
      assignableScopes: [scope]
      permissions: [
        {
          actions: reduce(map(one.words, word => actionsOf[word]), [], (all, some) => union(all, some))
          notActions: []
          dataActions: []
          notDataActions: []
        }
      ]
    }
  }
]

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (one, i) in kinds: {
    name: guid(scope, one.identityId, 'defender-${one.kind}')
    properties: {
      roleDefinitionId: roles[i].id
      principalId: one.principalId
      principalType: 'ServicePrincipal'
    }
  }
]

// --- every subscription forwards its alerts ---

// "Deploy Workflow Automation for Microsoft Defender for Cloud alerts", built in
var definition = tenantResourceId('Microsoft.Authorization/policyDefinitions', 'f1525828-9a90-4fcf-be48-268cdd02361e')
var contributor = tenantResourceId('Microsoft.Authorization/roleDefinitions', 'b24988ac-6180-42a0-ab88-20f7382dd24c')

resource forward 'Microsoft.Authorization/policyAssignments@2025-03-01' = if (forwardAlerts) {
  name: 'forward-defender-alerts'
  location: location
  identity: { type: 'SystemAssigned' }
  properties: {
    displayName: 'Forward Defender for Cloud alerts to the responder'
    policyDefinitionId: definition
    parameters: {
      automationName: { value: 'forward-alerts' }
      resourceGroupName: { value: automationResourceGroup }
      resourceGroupLocation: { value: location }
      alertSeverities: { value: severities }
      logicAppResourceId: { value: logicAppId }
      // the policy's word for a Request trigger that is named manual
      logicAppTrigger: { value: 'Manual (Incoming HTTP request)' }
    }
  }
}

// what the policy's own deployment needs in each subscription: a resource group, the automation, the Logic App's callback address
resource forwarder 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (forwardAlerts) {
  name: guid(scope, 'forward-defender-alerts', contributor)
  properties: {
    roleDefinitionId: contributor
    principalId: forward!.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

output ROLES array = [for (one, i) in kinds: roles[i].id]
