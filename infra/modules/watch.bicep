// Who watches the watchman: rules that wake people when the service does not do what it is there for, and a workbook that shows what
// it does. The queries are in infra/kql, and tested there.
@description('Unique part of every name.')
param token string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Log Analytics workspace with the telemetry of the apps.')
param workspaceId string

@description('The topic that alerts come by.')
param topicId string

@description('Logic Apps: their failed runs are told.')
param logicAppIds string[]

@description('Does the app test itself each day? Then that it fails, or does not, is told.')
param selfTest bool

@description('Addresses that are told. Empty: rules fire and are seen in the portal alone.')
param mailAddresses string[]

var always = [
  {
    name: 'no-sweep'
    text: 'No sweep for five minutes, or the logs are late.'
    severity: 2
    query: loadTextContent('../kql/rule_no_sweep.kql')
    window: 'PT5M'
    every: 'PT5M'
    operator: 'LessThan'
    threshold: 1
  }
  {
    name: 'no-sweep-at-all'
    text: 'No sweep for a quarter of an hour: nothing lifts what is due.'
    severity: 0
    query: loadTextContent('../kql/rule_no_sweep.kql')
    window: 'PT15M'
    every: 'PT5M'
    operator: 'LessThan'
    threshold: 1
  }
  {
    name: 'late'
    text: 'Blocks live past their time.'
    severity: 1
    query: loadTextContent('../kql/rule_late.kql')
    window: 'PT15M'
    every: 'PT5M'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'block-failed'
    text: 'A block could not be written, or has no effect.'
    severity: 1
    query: loadTextContent('../kql/rule_block_failed.kql')
    window: 'PT15M'
    every: 'PT5M'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'slow-block'
    text: 'From claim to proof took more than two minutes.'
    severity: 2
    query: loadTextContent('../kql/rule_slow_block.kql')
    window: 'PT1H'
    every: 'PT15M'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'poison'
    text: 'A message or an alert could not be worked on.'
    severity: 1
    query: loadTextContent('../kql/rule_poison.kql')
    window: 'PT15M'
    every: 'PT5M'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'failures'
    text: 'Functions fail.'
    severity: 2
    query: loadTextContent('../kql/rule_failures.kql')
    window: 'PT15M'
    every: 'PT5M'
    operator: 'GreaterThan'
    threshold: 5
  }
  {
    name: 'permissions'
    text: 'Azure refuses the service something for want of a right.'
    severity: 2
    query: loadTextContent('../kql/rule_permissions.kql')
    window: 'PT1H'
    every: 'PT15M'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'missed'
    text: 'Defender holds alerts that never came by the automation.'
    severity: 1
    query: loadTextContent('../kql/rule_missed.kql')
    window: 'PT1H'
    every: 'PT15M'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'undelivered'
    text: 'A channel has not taken a message for three days.'
    severity: 1
    query: loadTextContent('../kql/rule_undelivered.kql')
    window: 'PT1H'
    every: 'PT15M'
    operator: 'GreaterThan'
    threshold: 0
  }
]

// said by the self-test alone
var rehearsed = [
  {
    name: 'forwarding'
    text: 'A workflow automation of Defender is disabled or missing.'
    severity: 1
    query: loadTextContent('../kql/rule_forwarding.kql')
    window: 'PT2H'
    every: 'PT30M'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'selftest'
    text: 'The last self-test failed, or none has passed for two days.'
    severity: 1
    query: loadTextContent('../kql/rule_selftest.kql')
    window: 'P2D'
    every: 'PT1H'
    operator: 'GreaterThan'
    threshold: 0
  }
]
var rules = selfTest ? concat(always, rehearsed) : always

var panels = [
  { title: 'Alerts decided', kind: 'barchart', query: loadTextContent('../kql/panel_alerts.kql') }
  { title: 'Blocks by their state', kind: 'table', query: loadTextContent('../kql/panel_blocks.kql') }
  { title: 'Seconds from claim to proof', kind: 'linechart', query: loadTextContent('../kql/panel_time_to_block.kql') }
  { title: 'Seconds of each hop', kind: 'table', query: loadTextContent('../kql/panel_hops.kql') }
  { title: 'What people were told', kind: 'table', query: loadTextContent('../kql/panel_notices.kql') }
  { title: 'Where Azure asked us to slow down', kind: 'table', query: loadTextContent('../kql/panel_throttling.kql') }
  { title: 'Investigations', kind: 'barchart', query: loadTextContent('../kql/panel_investigations.kql') }
  { title: 'Firewalls', kind: 'table', query: loadTextContent('../kql/panel_firewalls.kql') }
  { title: 'Quarantine', kind: 'table', query: loadTextContent('../kql/panel_quarantine.kql') }
  { title: 'Self-tests', kind: 'table', query: loadTextContent('../kql/panel_selftests.kql') }
  { title: 'Sweeps', kind: 'linechart', query: loadTextContent('../kql/panel_sweeps.kql') }
]

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${token}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'responder'
    emailReceivers: [
      for (one, i) in mailAddresses: {
        name: 'mail-${i}'
        emailAddress: one
        useCommonAlertSchema: true
      }
    ]
  }
}

resource queries 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for one in rules: {
    name: 'responder-${one.name}-${token}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: 'Responder: ${one.name}'
      description: one.text
      enabled: true
      severity: one.severity
      scopes: [workspaceId]
      evaluationFrequency: one.every
      windowSize: one.window
      autoMitigate: true
      // the tables are there only once something has been logged
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: one.query
            timeAggregation: 'Count'
            operator: one.operator
            threshold: one.threshold
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: [people.id] }
    }
  }
]

resource deadLetters 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'responder-dead-letters-${token}'
  location: 'global'
  tags: tags
  properties: {
    description: 'Alerts could not be delivered for a day and lie in the container of dead letters: replay them (python -m remediation replay FILE).'
    severity: 1
    enabled: true
    scopes: [topicId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'dead-letters'
          metricNamespace: 'Microsoft.EventGrid/topics'
          metricName: 'DeadLetteredCount'
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Total'
        }
      ]
    }
    actions: [{ actionGroupId: people.id }]
  }
}

resource failedRuns 'Microsoft.Insights/metricAlerts@2018-03-01' = [
  for (one, i) in logicAppIds: {
    name: 'responder-logic-app-${i}-${token}'
    location: 'global'
    tags: tags
    properties: {
      description: 'Runs of a Logic App fail: alerts, or ticks, do not reach the topic.'
      severity: 1
      enabled: true
      scopes: [one]
      evaluationFrequency: 'PT5M'
      windowSize: 'PT15M'
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            criterionType: 'StaticThresholdCriterion'
            name: 'failed-runs'
            metricNamespace: 'Microsoft.Logic/workflows'
            metricName: 'RunsFailed'
            operator: 'GreaterThan'
            threshold: 0
            timeAggregation: 'Total'
          }
        ]
      }
      actions: [{ actionGroupId: people.id }]
    }
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'defender-responder')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Defender responder'
    category: 'workbook'
    sourceId: workspaceId
    serializedData: string({
      version: 'Notebook/1.0'
      items: concat(
        [
          {
            type: 9
            name: 'time'
            content: {
              version: 'KqlParameterItem/1.0'
              style: 'pills'
              parameters: [
                {
                  id: guid(token, 'time')
                  version: 'KqlParameterItem/1.0'
                  name: 'Time'
                  label: 'Time'
                  type: 4
                  isRequired: true
                  value: { durationMs: 86400000 }
                  typeSettings: {
                    selectableValues: [{ durationMs: 3600000 }, { durationMs: 86400000 }, { durationMs: 604800000 }, { durationMs: 2592000000 }]
                    allowCustom: true
                  }
                }
              ]
            }
          }
        ],
        map(panels, one => {
          type: 3
          name: one.title
          content: {
            version: 'KqlItem/1.0'
            title: one.title
            query: one.query
            size: 0
            timeContextFromParameter: 'Time'
            queryType: 0
            resourceType: 'microsoft.operationalinsights/workspaces'
            visualization: one.kind
          }
        })
      )
      fallbackResourceIds: [workspaceId]
    })
  }
}
