// What an identity may do, in words: one list of actions for each capability, each named by the code that uses it (a test holds
// the two together). A role is put together from these, and has nothing of a capability that is off.
@export()
@description('Actions by capability. alerts and trace read; all others change something, or look where not everybody may.')
var actionsOf = {
  // alerts as Defender holds them, and who changed a rule
  alerts: [
    'Microsoft.Security/locations/alerts/read'
    'Microsoft.Insights/eventtypes/values/read'
    'Microsoft.Resources/subscriptions/read'
    'Microsoft.ResourceGraph/resources/read'
  ]
  // from the alert's resource to the machines behind it, and what guards them
  trace: [
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
    'Microsoft.Network/networkSecurityGroups/read'
    'Microsoft.Network/locations/serviceTags/read'
    // what stands before machines
    'Microsoft.Network/loadBalancers/read'
    'Microsoft.Network/applicationGateways/read'
    'Microsoft.Network/natGateways/read'
    'Microsoft.Network/routeTables/read'
    'Microsoft.Network/bastionHosts/read'
    'Microsoft.Network/virtualNetworkGateways/read'
    'Microsoft.Compute/virtualMachineScaleSets/read'
    'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read'
    'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/networkInterfaces/read'
    // a Kubernetes cluster: its node pools are scale sets
    'Microsoft.ContainerService/managedClusters/read'
    // what a firewall lets out
    'Microsoft.Network/azureFirewalls/read'
    'Microsoft.Network/firewallPolicies/read'
    'Microsoft.Network/firewallPolicies/ruleCollectionGroups/read'
    'Microsoft.Network/ipGroups/read'
    'Microsoft.Network/virtualHubs/hubVirtualNetworkConnections/read'
    'Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies/read'
  ]
  // the owned rules of network security groups, and nothing else of them
  block: [
    'Microsoft.Network/networkSecurityGroups/securityRules/write'
    'Microsoft.Network/networkSecurityGroups/securityRules/delete'
    'Microsoft.Network/locations/operations/read'
    'Microsoft.Network/locations/operationResults/read'
  ]
  // where the subnet of an application gateway has no guard: our rule in its WAF policy, which Azure has written whole
  waf: [
    'Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies/write'
  ]
  // flushConnection of a network security group (policy: cut_live_flows): the right to write it whole
  flows: [
    'Microsoft.Network/networkSecurityGroups/write'
  ]
  // rogue rules out of firewalls, and back: a group of rules is written whole; a firewall with classic rules, too, with all that
  // it is joined to
  firewall: [
    'Microsoft.Network/firewallPolicies/ruleCollectionGroups/write'
    'Microsoft.Network/ipGroups/join/action'
    'Microsoft.Network/azureFirewalls/write'
    'Microsoft.Network/virtualNetworks/subnets/join/action'
    'Microsoft.Network/publicIPAddresses/join/action'
  ]
  // machines looked into from outside: posture, logs
  inquiry: [
    'Microsoft.Security/assessments/read'
    'Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/read'
    'Microsoft.Authorization/roleAssignments/read'
    'Microsoft.OperationalInsights/workspaces/read'
    'Microsoft.OperationalInsights/workspaces/query/read'
    'Microsoft.OperationalInsights/workspaces/query/*/read'
  ]
  // does Defender send its alerts on, in every subscription? (the self-test, and a look each hour)
  selftest: [
    'Microsoft.Security/automations/read'
  ]
  // alerts resolved in Defender when all is done (policy: [investigation] resolve)
  resolve: [
    'Microsoft.Security/locations/alerts/resolve/action'
  ]
  // inside machines, by Run Command: root on every machine in scope, so of the guest app alone
  guest: [
    'Microsoft.Compute/virtualMachines/read'
    'Microsoft.Compute/virtualMachines/instanceView/read'
    'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read'
    'Microsoft.Compute/virtualMachines/runCommands/read'
    'Microsoft.Compute/virtualMachines/runCommands/write'
    'Microsoft.Compute/virtualMachines/runCommands/delete'
    'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommands/read'
    'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommands/write'
    'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommands/delete'
    // missing updates: the last assessment, and a new one
    'Microsoft.ResourceGraph/resources/read'
    'Microsoft.Compute/virtualMachines/patchAssessmentResults/*'
    'Microsoft.Compute/virtualMachines/assessPatches/action'
    'Microsoft.Compute/locations/operations/read'
  ]
  // critical and security updates, after a yes
  updates: [
    'Microsoft.Compute/virtualMachines/installPatches/action'
  ]
  // Microsoft's antimalware as an extension, after a yes
  antimalware: [
    'Microsoft.Compute/virtualMachines/extensions/read'
    'Microsoft.Compute/virtualMachines/extensions/write'
    // what makes a Linux machine one of the organisation's in Defender for Endpoint
    'Microsoft.Security/mdeOnboardings/read'
  ]
}

@export()
@description('The words of the app itself, from what a deployment wants of it.')
func responderCapabilities(block bool, waf bool, flows bool, firewall bool, inquiry bool, selftest bool, resolve bool) string[] =>
  concat(
    ['alerts', 'trace'],
    block ? ['block'] : [],
    waf ? ['waf'] : [],
    flows ? ['flows'] : [],
    firewall ? ['firewall'] : [],
    inquiry ? ['inquiry'] : [],
    selftest ? ['selftest'] : [],
    resolve ? ['resolve'] : []
  )

@export()
@description('The words of the guest app.')
func guestCapabilities(updates bool, antimalware bool) string[] =>
  concat(['guest'], updates ? ['updates'] : [], antimalware ? ['antimalware'] : [])
