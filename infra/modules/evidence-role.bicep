// The right to add evidence and to read it, and no other: Azure's own roles that may add may delete as well.
targetScope = 'subscription'

@description('Tells the roles of several deployments in one subscription apart.')
param token string

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'defender-evidence', token)
  properties: {
    roleName: 'Defender evidence (${token})'
    description: 'Add blobs and read them; neither change nor delete one.'
    type: 'CustomRole'
    assignableScopes: [subscription().id]
    permissions: [
      {
        actions: ['Microsoft.Storage/storageAccounts/blobServices/containers/read']
        notActions: []
        dataActions: [
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action'
        ]
        notDataActions: []
      }
    ]
  }
}

output id string = role.id
