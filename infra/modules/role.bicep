// One custom role, put together from capabilities, and its assignment: in one subscription.
targetScope = 'subscription'

import { actionsOf } from 'capabilities.bicep'

@description('Who it is for: part of the role name.')
@allowed(['responder', 'guest'])
param kind string

@description('Words of capabilities.bicep.')
param capabilities string[]

@description('The identity.')
param principalId string

@description('Resource id of the identity: names the assignment, so that deploying twice changes nothing.')
param identityId string

@description('Tells the roles of several deployments in one subscription apart.')
param token string

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'defender-${kind}', token)
  properties: {
    roleName: 'Defender ${kind} (${token})'
    description: 'What the Defender responder (${kind}) does: ${join(capabilities, ', ')}.'
    type: 'CustomRole'
    assignableScopes: [subscription().id]
    permissions: [
      {
        actions: reduce(map(capabilities, word => actionsOf[word]), [], (all, some) => union(all, some))
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, identityId, role.id)
  properties: {
    roleDefinitionId: role.id
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
