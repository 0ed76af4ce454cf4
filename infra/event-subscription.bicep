// Second step, after the code is there: Event Grid looks the function up and fetches its key itself.
targetScope = 'resourceGroup'

@description('EVENT_GRID_TOPIC_NAME of the first step.')
param topicName string

@description('AZURE_FUNCTION_APP_NAME of the first step.')
param functionAppName string

@description('The function that takes alerts.')
param functionName string = 'on_alert'

@description('STORAGE_ACCOUNT_NAME of the first step: dead letters go to its container deadletter.')
param storageAccountName string

resource topic 'Microsoft.EventGrid/topics@2025-02-15' existing = {
  name: topicName
}

resource functionApp 'Microsoft.Web/sites@2024-11-01' existing = {
  name: functionAppName

  resource handler 'functions' existing = {
    name: functionName
  }
}

resource storage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: storageAccountName
}

resource toFunction 'Microsoft.EventGrid/topics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'to-function'
  properties: {
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: functionApp::handler.id
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: { includedEventTypes: ['Defender.SecurityAlert'] }
    retryPolicy: { maxDeliveryAttempts: 30, eventTimeToLiveInMinutes: 1440 }
    deadLetterWithResourceIdentity: {
      identity: { type: 'SystemAssigned' }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: {
          resourceId: storage.id
          blobContainerName: 'deadletter'
        }
      }
    }
  }
}
