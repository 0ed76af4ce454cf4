@description('Region.')
param location string

@description('Tags.')
param tags object

@description('The Logic App whose Request trigger is named manual.')
param logicAppId string

@description('Alert severities forwarded. The C2 alert is Medium: a filter on High alone misses it.')
param severities ('high' | 'medium' | 'low' | 'informational')[] = ['high', 'medium']

resource automation 'Microsoft.Security/automations@2023-12-01-preview' = {
  name: 'forward-alerts'
  location: location
  tags: tags
  properties: {
    isEnabled: true
    description: 'Forward Defender for Cloud alerts to the responder.'
    scopes: [
      {
        description: 'This subscription'
        scopePath: subscription().id
      }
    ]
    sources: [
      {
        eventSource: 'Alerts'
        ruleSets: [
          for severity in severities: {
            rules: [
              {
                propertyJPath: 'Severity'
                propertyType: 'String'
                expectedValue: severity
                operator: 'Equals'
              }
            ]
          }
        ]
      }
    ]
    actions: [
      {
        actionType: 'LogicApp'
        logicAppResourceId: logicAppId
        uri: listCallbackUrl('${logicAppId}/triggers/manual', '2019-05-01').value
      }
    ]
  }
}
