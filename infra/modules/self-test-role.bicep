// What the self-test needs of the Logic App that alerts come by: the address of its trigger, and what became of a run.
targetScope = 'subscription'

@description('Tells the roles of several deployments in one subscription apart.')
param token string

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'defender-self-test', token)
  properties: {
    roleName: 'Defender self-test (${token})'
    description: 'Send an alert to a Logic App, and see what became of it.'
    type: 'CustomRole'
    assignableScopes: [subscription().id]
    permissions: [
      {
        actions: [
          'Microsoft.Logic/workflows/triggers/listCallbackUrl/action'
          'Microsoft.Logic/workflows/runs/read'
          'Microsoft.Logic/workflows/runs/actions/read'
        ]
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
  }
}

output id string = role.id
