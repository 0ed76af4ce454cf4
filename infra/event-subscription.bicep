// Second step, after the code is there: Event Grid looks the function up and fetches its key itself.
targetScope = 'resourceGroup'

@description('EVENT_GRID_TOPIC_NAME of the first step.')
param topicName string

@description('AZURE_FUNCTION_APP_NAME of the first step.')
param functionAppName string

@description('The function that takes alerts.')
param functionName string = 'on_alert'

@description('The function that takes ticks: the second driver of the sweep.')
param tickFunctionName string = 'on_tick'

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

  resource ticked 'functions' existing = {
    name: tickFunctionName
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

resource ticks 'Microsoft.EventGrid/topics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'ticks'
  properties: {
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: functionApp::ticked.id
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: { includedEventTypes: ['Responder.Tick'] }
    // an old tick is no use: another comes
    retryPolicy: { maxDeliveryAttempts: 2, eventTimeToLiveInMinutes: 5 }
  }
}

// --- what is written of firewalls: the subscription's own events ---

@description('Take events of firewalls, too. A subscription has one system topic for its events at the most.')
param firewallEvents bool = true

@description('Name of the system topic that the subscription has already (in this resource group), if it has one; empty: it is made.')
param existingSystemTopic string = ''

resource ownSystemTopic 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (firewallEvents && empty(existingSystemTopic)) {
  name: 'evgst-subscription'
  location: 'global'
  properties: {
    source: subscription().id
    topicType: 'Microsoft.Resources.Subscriptions'
  }
}

resource systemTopic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = if (firewallEvents) {
  name: empty(existingSystemTopic) ? 'evgst-subscription' : existingSystemTopic
}

resource firewallChanges 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (firewallEvents) {
  parent: systemTopic
  name: 'firewall-changes'
  properties: {
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: '${functionApp.id}/functions/on_firewall_change'
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: {
      includedEventTypes: [
        'Microsoft.Resources.ResourceWriteSuccess'
        'Microsoft.Resources.ResourceDeleteSuccess'
        'Microsoft.Resources.ResourceActionSuccess'
      ]
      // operationName has no fixed casing; these comparisons have none either
      advancedFilters: [
        {
          operatorType: 'StringContains'
          key: 'data.operationName'
          values: [
            'Microsoft.Network/firewallPolicies'
            'Microsoft.Network/azureFirewalls'
            'Microsoft.Network/ipGroups'
          ]
        }
      ]
    }
    // what is lost here, the daily look finds
    retryPolicy: { maxDeliveryAttempts: 30, eventTimeToLiveInMinutes: 1440 }
  }
  dependsOn: [ownSystemTopic]
}
