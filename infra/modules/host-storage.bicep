// What the Functions host needs: code packages, queues, dead letters. No shared keys, nothing public.
@description('Name of the account: 3 to 24 letters and digits.')
@minLength(3)
@maxLength(24)
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Names of the containers of code packages, one for each app.')
param packageContainers string[]

@description('Further containers: of dead letters, of what machines write.')
param containers string[]

@description('Names of the queues.')
param queues string[]

@description('Only by private endpoints, but for Azure services that deliver dead letters?')
param private bool

@description('A container of which everything is deleted after a week; empty: none.')
param weekly string = ''

@description('Days for which packages and dead letters can be brought back after they were deleted.')
@minValue(1)
@maxValue(365)
param deletedKeptDays int = 7

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: 'Standard_ZRS' }
  kind: 'StorageV2'
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      // Event Grid, whose dead letters come from outside the network, is a trusted service
      bypass: 'AzureServices'
      defaultAction: private ? 'Deny' : 'Allow'
    }
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      deleteRetentionPolicy: { enabled: true, days: deletedKeptDays }
      containerDeleteRetentionPolicy: { enabled: true, days: deletedKeptDays }
    }

    resource packages 'containers' = [
      for one in packageContainers: {
        name: one
      }
    ]

    resource others 'containers' = [
      for one in containers: {
        name: one
      }
    ]
  }

  resource queueService 'queueServices' = {
    name: 'default'

    resource named 'queues' = [
      for one in queues: {
        name: one
      }
    ]
  }
}

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2025-06-01' = if (!empty(weekly)) {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'what-was-left'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: { blobTypes: ['blockBlob', 'appendBlob'], prefixMatch: ['${weekly}/'] }
            actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: 7 } } }
          }
        }
      ]
    }
  }
}

output id string = account.id
output name string = account.name
