@description('Unique part of every name.')
param token string

@description('Region of all resources.')
param location string

@description('Tags of all resources.')
param tags object

@description('Instances of on_alert kept warm; two avoid a drained one. 0: none.')
@minValue(0)
@maxValue(10)
param alwaysReady int

@description('Part of the names of owned NSG rules.')
@maxLength(20)
param deployment string

@description('How far the service may go: notify, simulate, approve or enforce.')
@allowed(['notify', 'simulate', 'approve', 'enforce'])
param mode string

@description('Subscriptions whose machines are looked after; empty: all that the identity can read.')
param subscriptions array

@description('Management groups whose machines are looked after, in place of subscriptions; empty: none.')
param managementGroups array

@description('Log Analytics workspaces (their GUIDs) in which traces of attackers are looked for.')
param workspaces array

@description('The queue of the guest app; empty: nothing looks inside machines.')
param guestQueue string

@description('A secret of a key vault that holds the channels people are told by (RESPONDER_NOTIFY); empty: none.')
param notifySecretUri string

var functionAppName = 'func-${token}'
var packageContainer = 'app-package-${take(functionAppName, 32)}'
var roles = {
  blobOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  queueContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  tableContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${token}'
  location: location
  tags: tags
}

resource storage 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: 'st${token}'
  location: location
  tags: tags
  sku: { name: 'Standard_ZRS' }
  kind: 'StorageV2'
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      deleteRetentionPolicy: { enabled: true, days: 7 }
    }

    resource package 'containers' = {
      name: packageContainer
    }

    resource deadLetter 'containers' = {
      name: 'deadletter'
    }

    resource evidence 'containers' = {
      name: 'evidence'
    }

    // what machines write, read and deleted within hours
    resource incoming 'containers' = {
      name: 'evidence-incoming'
    }
  }

  resource queues 'queueServices' = {
    name: 'default'

    resource commit 'queues' = {
      name: 'commit'
    }

    resource investigations 'queues' = {
      name: 'investigations'
    }
  }

  // The ledger's tables are made by the app when first missed.
  resource tables 'tableServices' = {
    name: 'default'
  }
}

resource storageRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in items(roles): {
    name: guid(storage.id, identity.id, role.value)
    scope: storage
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.value)
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
    }
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: 'log-${token}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 90
    features: { disableLocalAuth: true }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${token}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource metricsPublisher 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, identity.id, 'metrics')
  scope: insights
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '3913510d-42f4-4e42-8a64-420c390055eb')
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: 'plan-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource functionApp 'Microsoft.Web/sites@2024-11-01' = {
  name: functionAppName
  location: location
  tags: union(tags, { 'azd-service-name': 'responder' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: 40
        alwaysReady: alwaysReady > 0
          ? [
              {
                name: 'function:on_alert'
                instanceCount: alwaysReady
              }
            ]
          : []
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
    }
  }

  resource settings 'config' = {
    name: 'appsettings'
    properties: {
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identity.properties.clientId
      AzureWebJobsStorage__blobServiceUri: storage.properties.primaryEndpoints.blob
      AzureWebJobsStorage__queueServiceUri: storage.properties.primaryEndpoints.queue
      AzureWebJobsStorage__tableServiceUri: storage.properties.primaryEndpoints.table
      APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
      AZURE_CLIENT_ID: identity.properties.clientId
      PYTHON_THREADPOOL_THREAD_COUNT: '32'
      SWEEP_SCHEDULE: '0 * * * * *'
      COMMIT_QUEUE: 'commit'
      INVESTIGATION_QUEUE: 'investigations'
      GUEST_QUEUE: guestQueue
      RESPONDER_WORKSPACES: join(workspaces, ',')
      RESPONDER_NOTIFY: empty(notifySecretUri) ? '' : '@Microsoft.KeyVault(SecretUri=${notifySecretUri})'
      RESPONDER_LINKS: 'https://${functionApp.properties.defaultHostName}'
      RESPONDER_DEPLOYMENT: deployment
      RESPONDER_MODE: mode
      RESPONDER_SUBSCRIPTIONS: join(subscriptions, ',')
      RESPONDER_MANAGEMENT_GROUPS: join(managementGroups, ',')
    }
  }
  dependsOn: [storageRoles, storage::blobs::package]
}

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

resource deadLetterRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(storage.id, topic.id, 'deadletter')
  scope: storage::blobs::deadLetter
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')
    principalId: topic.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

resource topicLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: topic
  properties: {
    workspaceId: workspace.id
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
  }
}

resource logicApp 'Microsoft.Logic/workflows@2019-05-01' = {
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

resource publisherRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(topic.id, logicApp.id, 'sender')
  scope: topic
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'd5a91429-5739-47e2-a06b-3470a27159e7')
    principalId: logicApp.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

output functionAppName string = functionApp.name
output identityPrincipalId string = identity.properties.principalId
output logicAppId string = logicApp.id
output topicName string = topic.name
output storageAccountName string = storage.name
output insightsName string = insights.name
