// What the code does so far, and nothing else: read machines, guards and alerts; write NSG rules.
targetScope = 'subscription'

@description('The app identity.')
param principalId string

@description('May it switch flushConnection of an NSG (policy: cut_live_flows)? That is the right to write NSGs whole.')
param cutLiveFlows bool = false

@description('May it take a rogue rule out of a firewall, and put it back (policy, [firewall])? Without it such rules are found and told.')
param changeFirewalls bool = false

// a group of rules is written whole; a firewall with classic rules, too, with all that it is joined to
var firewalls = changeFirewalls ? [
  'Microsoft.Network/firewallPolicies/ruleCollectionGroups/write'
  'Microsoft.Network/ipGroups/join/action'
  'Microsoft.Network/azureFirewalls/write'
  'Microsoft.Network/virtualNetworks/subnets/join/action'
  'Microsoft.Network/publicIPAddresses/join/action'
] : []

@description('May it look into machines from outside: posture, logs? Without it those steps say what is missing.')
param investigate bool = true

@description('May it resolve alerts in Defender when all is done (policy: [investigation] resolve)?')
param resolveAlerts bool = false

var inquiry = investigate ? [
  'Microsoft.Security/assessments/read'
  'Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/read'
  'Microsoft.Authorization/roleAssignments/read'
  'Microsoft.OperationalInsights/workspaces/read'
  'Microsoft.OperationalInsights/workspaces/query/read'
  'Microsoft.OperationalInsights/workspaces/query/*/read'
] : []

var resolving = resolveAlerts ? ['Microsoft.Security/locations/alerts/resolve/action'] : []

var flows = cutLiveFlows ? ['Microsoft.Network/networkSecurityGroups/write'] : []

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'defender-responder')
  properties: {
    roleName: 'Defender Responder (${take(uniqueString(subscription().id), 6)})'
    description: 'Find the machines behind an alert and block the attacker in their network security groups.'
    type: 'CustomRole'
    assignableScopes: [subscription().id]
    permissions: [
      {
        actions: union(flows, firewalls, inquiry, resolving, [
          // what a firewall lets out
          'Microsoft.Network/firewallPolicies/read'
          'Microsoft.Network/firewallPolicies/ruleCollectionGroups/read'
          'Microsoft.Network/ipGroups/read'
          'Microsoft.Network/virtualHubs/hubVirtualNetworkConnections/read'
          // alerts, and who changed a rule
          'Microsoft.Security/locations/alerts/read'
          'Microsoft.Insights/eventtypes/values/read'
          // machines and guards
          'Microsoft.Resources/subscriptions/read'
          'Microsoft.ResourceGraph/resources/read'
          'Microsoft.Compute/virtualMachines/read'
          'Microsoft.Compute/virtualMachines/instanceView/read'
          'Microsoft.Network/networkInterfaces/read'
          // asked only where the policy says azure_confirms
          'Microsoft.Network/networkInterfaces/effectiveNetworkSecurityGroups/action'
          'Microsoft.Network/virtualNetworks/read'
          'Microsoft.Network/virtualNetworks/subnets/read'
          // does an AlwaysAllow of Virtual Network Manager pass over the guards? (a POST that only reads)
          'Microsoft.Network/virtualNetworks/listNetworkManagerEffectiveSecurityAdminRules/action'
          'Microsoft.Network/publicIPAddresses/read'
          'Microsoft.Network/publicIPPrefixes/read'
          // what stands before machines
          'Microsoft.Network/loadBalancers/read'
          'Microsoft.Network/applicationGateways/read'
          'Microsoft.Network/natGateways/read'
          'Microsoft.Network/azureFirewalls/read'
          'Microsoft.Network/routeTables/read'
          'Microsoft.Network/bastionHosts/read'
          'Microsoft.Network/virtualNetworkGateways/read'
          'Microsoft.Compute/virtualMachineScaleSets/read'
          'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read'
          'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/networkInterfaces/read'
          // a Kubernetes cluster: its node pools are scale sets
          'Microsoft.ContainerService/managedClusters/read'
          'Microsoft.Network/locations/serviceTags/read'
          'Microsoft.Network/networkSecurityGroups/read'
          // the owned rules
          'Microsoft.Network/networkSecurityGroups/securityRules/write'
          'Microsoft.Network/networkSecurityGroups/securityRules/delete'
          // where the subnet of an application gateway has no guard: our rule in its WAF policy, written whole
          'Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies/read'
          'Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies/write'
          'Microsoft.Network/locations/operations/read'
          'Microsoft.Network/locations/operationResults/read'
        ])
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, principalId, role.id)
  properties: {
    roleDefinitionId: role.id
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
