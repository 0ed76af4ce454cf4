// The app may publish escalations.
@description('The topic.')
param topicName string

@description('The identity of the app.')
param principalId string

@description('Resource id of that identity: names the assignment.')
param identityId string

resource topic 'Microsoft.EventGrid/topics@2025-02-15' existing = {
  name: topicName
}

resource sender 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(topic.id, identityId, 'sender')
  scope: topic
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'd5a91429-5739-47e2-a06b-3470a27159e7')
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
