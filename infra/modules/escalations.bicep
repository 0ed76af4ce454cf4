// The topic on which other systems hear escalations. Its own module: the app is told its address before the app's identity is there.
@description('Unique part of every name.')
param token string

@description('Region.')
param location string

@description('Tags.')
param tags object

resource topic 'Microsoft.EventGrid/topics@2025-02-15' = {
  name: 'evgt-escalations-${token}'
  location: location
  tags: tags
  properties: {
    inputSchema: 'CloudEventSchemaV1_0'
    disableLocalAuth: true
    minimumTlsVersionAllowed: '1.2'
    publicNetworkAccess: 'Enabled'
  }
}

output name string = topic.name
output endpoint string = topic.properties.endpoint
