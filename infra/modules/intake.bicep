// How alerts come in: Defender's automation → the Logic App's Request trigger → a topic of Event Grid, whose subscription to the
// function is the second step (event-subscription.bicep). And the second driver of the sweep: a tick every five minutes.
@description('Unique part of every name.')
param token string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Where diagnostics go.')
param workspaceId string

@description('The account with the container of dead letters.')
param hostStorageName string

@description('The container of dead letters.')
param deadLetterContainer string

var sender = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'd5a91429-5739-47e2-a06b-3470a27159e7')

resource topic 'Microsoft.EventGrid/topics@2025-02-15' = {
  name: 'evgt-${token}'
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    inputSchema: 'CloudEventSchemaV1_0'
    disableLocalAuth: true
    minimumTlsVersionAllowed: '1.2'
    publicNetworkAccess: 'Enabled'
  }
}

resource hostStorage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostStorageName

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource deadLetters 'containers' existing = {
      name: deadLetterContainer
    }
  }
}

// dead letters are written with the topic's own identity
resource mayBury 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(hostStorage.id, topic.id, 'deadletter')
  scope: hostStorage::blobs::deadLetters
  properties: {
    // Blob Data Contributor
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')
    principalId: topic.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

resource topicLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: topic
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

resource forwarder 'Microsoft.Logic/workflows@2019-05-01' = {
  name: 'logic-${token}'
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    state: 'Enabled'
    definition: {
      '$schema': 'https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#'
      contentVersion: '1.0.0.0'
      triggers: {
        // the policy that deploys automations looks for this name
        manual: {
          type: 'Request'
          kind: 'Http'
          inputs: { schema: {} }
        }
      }
      actions: {
        Publish: {
          type: 'Http'
          inputs: {
            method: 'POST'
            uri: topic.properties.endpoint
            headers: { 'Content-Type': 'application/cloudevents+json; charset=utf-8' }
            body: {
              specversion: '1.0'
              id: '@{triggerBody()?[\'SystemAlertId\']}'
              source: '/defender/alerts'
              type: 'Defender.SecurityAlert'
              data: '@triggerBody()'
            }
            retryPolicy: { type: 'exponential', count: 10, interval: 'PT10S', minimumInterval: 'PT5S', maximumInterval: 'PT1H' }
            authentication: {
              type: 'ManagedServiceIdentity'
              audience: 'https://eventgrid.azure.net'
            }
          }
          // what comes in is an alert, what goes out a token: neither belongs into the run history
          runtimeConfiguration: {
            secureData: { properties: ['inputs'] }
          }
        }
      }
    }
  }
}

resource ticker 'Microsoft.Logic/workflows@2019-05-01' = {
  name: 'logic-tick-${token}'
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    state: 'Enabled'
    definition: {
      '$schema': 'https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#'
      contentVersion: '1.0.0.0'
      triggers: {
        every: {
          type: 'Recurrence'
          recurrence: { frequency: 'Minute', interval: 5 }
        }
      }
      actions: {
        Tick: {
          type: 'Http'
          inputs: {
            method: 'POST'
            uri: topic.properties.endpoint
            headers: { 'Content-Type': 'application/cloudevents+json; charset=utf-8' }
            body: {
              specversion: '1.0'
              id: '@{workflow().run.name}'
              source: '/responder/ticks'
              type: 'Responder.Tick'
              data: { at: '@{utcNow()}' }
            }
            retryPolicy: { type: 'none' } // another comes
            authentication: {
              type: 'ManagedServiceIdentity'
              audience: 'https://eventgrid.azure.net'
            }
          }
        }
      }
    }
  }
}

resource mayPublish 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(topic.id, forwarder.id, 'sender')
  scope: topic
  properties: {
    roleDefinitionId: sender
    principalId: forwarder.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

resource mayTick 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(topic.id, ticker.id, 'sender')
  scope: topic
  properties: {
    roleDefinitionId: sender
    principalId: ticker.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

resource forwarderLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: forwarder
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

resource tickerLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: ticker
  properties: {
    workspaceId: workspaceId
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output topicName string = topic.name
output topicId string = topic.id
output tickerId string = ticker.id
output logicAppId string = forwarder.id
output logicAppName string = forwarder.name
