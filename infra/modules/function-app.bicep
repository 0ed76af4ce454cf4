// One Functions app on Flex Consumption, with its identity and its rights on our own storage. The app and the guest app are both
// made from this: the same package, other settings, another identity.
@description('Name of the app.')
param name string

@description('Name of its plan.')
param planName string

@description('Name of its identity.')
param identityName string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('azd deploys the package of this service to it.')
param serviceName string

@description('Its host storage account: packages, leases, secrets. Of this app alone: who can write a package runs as the app.')
param hostStorageName string

@description('The account of the queues, of both apps.')
param queueStorageName string

@description('The container of its code package.')
param packageContainer string

@description('The account of the ledger and the evidence.')
param ledgerName string

@description('The role that adds and reads evidence.')
param evidenceRoleId string

@description('The container of evidence.')
param evidenceContainer string

@description('Does it hand out addresses to machines, of blobs in its host storage?')
param handsOutAddresses bool = false

@description('Application Insights.')
param insightsName string

@description('Instances kept warm: {name, instanceCount} for each function or group.')
param alwaysReady { name: string, instanceCount: int }[] = []

@description('Most instances at once.')
@minValue(40)
@maxValue(1000)
param maximumInstances int = 40

@description('What may reach its HTTP side: {name, priority, tag, addresses}. Nothing else does.')
param allowed { name: string, priority: int, tag: ('ServiceTag' | 'Default'), addresses: string }[] = []

@description('The subnet its own requests leave by; empty: none.')
param subnetId string = ''

@description('Application settings beside those that every Functions app has.')
param settings object

var roles = union(
  [
    { scope: 'host', id: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b' } // Blob Data Owner: the package, the host's leases
    { scope: 'queues', id: '974c5e8b-45b9-4653-ba55-5f855dd0fb88' } // Queue Data Contributor
    { scope: 'ledger', id: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3' } // Table Data Contributor
  ],
  !handsOutAddresses
    ? []
    : [
        { scope: 'host', id: 'db58b8e5-c6ad-4a2a-8342-4190687cbf4a' } // Blob Delegator: addresses for machines
      ]
)

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: identityName
  location: location
  tags: tags
}

resource hostStorage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostStorageName
}

resource queueStorage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: queueStorageName
}

resource ledger 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: ledgerName

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource evidence 'containers' existing = {
      name: evidenceContainer
    }
  }
}

resource hostRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for one in filter(roles, r => r.scope == 'host'): {
    name: guid(hostStorage.id, identity.id, one.id)
    scope: hostStorage
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', one.id)
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
    }
  }
]

resource queueRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for one in filter(roles, r => r.scope == 'queues'): {
    name: guid(queueStorage.id, identity.id, one.id)
    scope: queueStorage
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', one.id)
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
    }
  }
]

resource ledgerRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for one in filter(roles, r => r.scope == 'ledger'): {
    name: guid(ledger.id, identity.id, one.id)
    scope: ledger
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', one.id)
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
    }
  }
]

resource evidenceRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(ledger::blobs::evidence.id, identity.id, evidenceRoleId)
  scope: ledger::blobs::evidence
  properties: {
    roleDefinitionId: evidenceRoleId
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
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
  name: planName
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

resource site 'Microsoft.Web/sites@2024-11-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': serviceName })
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
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    keyVaultReferenceIdentity: identity.id
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${hostStorage.properties.primaryEndpoints.blob}${packageContainer}'
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
        maximumInstanceCount: maximumInstances
        alwaysReady: alwaysReady
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      ipSecurityRestrictionsDefaultAction: 'Deny'
      ipSecurityRestrictions: [
        for one in allowed: {
          name: one.name
          priority: one.priority
          tag: one.tag
          ipAddress: one.addresses
          action: 'Allow'
        }
      ]
    }
  }

  resource appSettings 'config' = {
    name: 'appsettings'
    properties: union(
      {
        AzureWebJobsStorage__credential: 'managedidentity'
        AzureWebJobsStorage__clientId: identity.properties.clientId
        AzureWebJobsStorage__blobServiceUri: hostStorage.properties.primaryEndpoints.blob
        AzureWebJobsStorage__queueServiceUri: queueStorage.properties.primaryEndpoints.queue
        AzureWebJobsStorage__tableServiceUri: hostStorage.properties.primaryEndpoints.table
        APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
        APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
        AZURE_CLIENT_ID: identity.properties.clientId
        PYTHON_THREADPOOL_THREAD_COUNT: '32'
        LEDGER__tableServiceUri: ledger.properties.primaryEndpoints.table
        EVIDENCE__blobServiceUri: ledger.properties.primaryEndpoints.blob
        INCOMING__blobServiceUri: hostStorage.properties.primaryEndpoints.blob
        EVIDENCE_CONTAINER: evidenceContainer
      },
      settings
    )
  }

  // nobody deploys by a password
  resource noFtp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }

  resource noScm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }

  dependsOn: [hostRoles, queueRoles]
}

output name string = site.name
output identityId string = identity.id
output principalId string = identity.properties.principalId
