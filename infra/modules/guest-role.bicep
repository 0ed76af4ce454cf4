// What the guest app does, and nothing else: look inside machines by Run Command, and what a person has said yes to.
// It is another identity than the app's, whose HTTP side faces the internet.
targetScope = 'subscription'

@description('The guest app identity.')
param principalId string

@description('May it install critical and security updates after a yes (step: updates)?')
param installUpdates bool = false

@description('May it install the antimalware extension after a yes (step: antimalware)?')
param installAntimalware bool = false

var updates = installUpdates ? ['Microsoft.Compute/virtualMachines/installPatches/action'] : []

var antimalware = installAntimalware ? [
  'Microsoft.Compute/virtualMachines/extensions/read'
  'Microsoft.Compute/virtualMachines/extensions/write'
  // what makes a Linux machine one of the organisation's in Defender for Endpoint
  'Microsoft.Security/mdeOnboardings/read'
] : []

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'defender-responder-guest')
  properties: {
    roleName: 'Defender Responder Guest (${take(uniqueString(subscription().id), 6)})'
    description: 'Look inside the machines behind an alert by Run Command.'
    type: 'CustomRole'
    assignableScopes: [subscription().id]
    permissions: [
      {
        actions: union(updates, antimalware, [
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
