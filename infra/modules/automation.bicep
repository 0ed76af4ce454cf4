@description('Region.')
param location string

@description('Tags.')
param tags object

@description('The Logic App whose Request trigger is named manual.')
param logicAppId string

@description('Alert severities forwarded. The alert about a command and control centre is Medium: High alone misses it.')
param severities ('high' | 'medium' | 'low' | 'informational')[]

@description('Beginnings of alert types forwarded; empty: all.')
param alertTypes string[]

// rules of a set are all to hold, of the sets one: a set for each severity, and for each of these with each type
var bySeverity = map(severities, s => [
  {
    propertyJPath: 'Severity'
    propertyType: 'String'
    operator: 'Equals'
    expectedValue: s
  }
])
var byType = flatten(map(bySeverity, rules => map(alertTypes, t => concat(rules, [
  {
    propertyJPath: 'AlertType'
    propertyType: 'String'
    operator: 'StartsWith'
    expectedValue: t
  }
]))))

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
        ruleSets: [for rules in (empty(alertTypes) ? bySeverity : byType): { rules: rules }]
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
