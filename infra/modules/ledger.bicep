// The memory and the evidence, in an account of their own: what the host can do with its own storage does not reach them. The apps
// may add evidence and read it, and can neither change nor delete it; the account can be told to refuse that to everybody.
@description('Name of the account: 3 to 24 letters and digits.')
@minLength(3)
@maxLength(24)
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Only by private endpoints?')
param private bool

@description('Days for which nobody can change or delete evidence, not even its owner; 0: no such promise. Only a new account takes it.')
@minValue(0)
@maxValue(3650)
param immutableDays int

@description('Locked: nobody can shorten the promise any more; for a second deployment, since Azure makes accounts with an unlocked one only.')
param immutableLocked bool

@description('Days after which evidence moves to cool storage.')
@minValue(1)
param coolAfterDays int

@description('Days after which evidence is deleted; 0: never.')
@minValue(0)
param deleteAfterDays int

@description('Log Analytics workspace that is told who read or wrote evidence.')
param workspaceId string

var evidence = 'evidence'

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: 'Standard_ZRS' }
  kind: 'StorageV2'
  properties: union(
    {
      accessTier: 'Hot'
      allowBlobPublicAccess: false
      allowCrossTenantReplication: false
      allowSharedKeyAccess: false
      defaultToOAuthAuthentication: true
      minimumTlsVersion: 'TLS1_2'
      supportsHttpsTrafficOnly: true
      publicNetworkAccess: private ? 'Disabled' : 'Enabled'
      networkAcls: {
        bypass: 'None'
        defaultAction: private ? 'Deny' : 'Allow'
      }
    },
    immutableDays > 0
      ? {
          immutableStorageWithVersioning: {
            enabled: true
            immutabilityPolicy: {
              immutabilityPeriodSinceCreationInDays: immutableDays
              allowProtectedAppendWrites: false
              state: immutableLocked ? 'Locked' : 'Unlocked'
            }
          }
        }
      : {}
  )

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      isVersioningEnabled: true
      deleteRetentionPolicy: { enabled: true, days: 30 }
      containerDeleteRetentionPolicy: { enabled: true, days: 30 }
    }

    resource kept 'containers' = {
      name: evidence
    }
  }

  // the tables are made by the app when first missed
  resource tables 'tableServices' = {
    name: 'default'
  }

  resource lifecycle 'managementPolicies' = {
    name: 'default'
    properties: {
      policy: {
        rules: concat(
          [
            {
              name: 'evidence-cools'
              type: 'Lifecycle'
              enabled: true
              definition: {
                filters: { blobTypes: ['blockBlob'], prefixMatch: ['${evidence}/'] }
                actions: { baseBlob: { tierToCool: { daysAfterModificationGreaterThan: coolAfterDays } } }
              }
            }
          ],
          deleteAfterDays > 0
            ? [
                {
                  name: 'evidence-ends'
                  type: 'Lifecycle'
                  enabled: true
                  definition: {
                    filters: { blobTypes: ['blockBlob'], prefixMatch: ['${evidence}/'] }
                    actions: {
                      baseBlob: { delete: { daysAfterModificationGreaterThan: deleteAfterDays } }
                      version: { delete: { daysAfterCreationGreaterThan: deleteAfterDays } }
                    }
                  }
                }
              ]
            : []
        )
      }
    }
    dependsOn: [blobs]
  }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: account::blobs
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageRead', enabled: true }
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

output id string = account.id
output name string = account.name
output evidenceContainer string = evidence
