// The app may send a sample alert to the Logic App.
@description('The Logic App.')
param logicAppName string

@description('The role (self-test-role.bicep).')
param roleId string

@description('The identity of the app.')
param principalId string

@description('Resource id of that identity: names the assignment.')
param identityId string

resource forwarder 'Microsoft.Logic/workflows@2019-05-01' existing = {
  name: logicAppName
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(forwarder.id, identityId, 'self-test')
  scope: forwarder
  properties: {
    roleDefinitionId: roleId
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
