@description('Name of the Log Analytics workspace.')
param logsName string

@description('Name of the Application Insights component.')
param insightsName string

@description('Azure region.')
param location string

@description('Tags of every resource.')
param tags object

// Both stay reachable in a private workspace. Closing them needs a private link scope, which changes the names of
// Azure Monitor in every network that is linked to it, so the administrators of the networks have to decide it.
resource logs 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: logsName
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: 30
    features: {
      disableLocalAuth: true
    }
    // A program that logs in a loop must not cost more than the training.
    workspaceCapping: {
      dailyQuotaGb: 1
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: insightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: logs.id
    DisableLocalAuth: true
  }
}

@description('Resource id of the Log Analytics workspace.')
output logsId string = logs.id

@description('Resource id of the Application Insights component.')
output insightsId string = insights.id

@description('Name of the Application Insights component.')
output insightsName string = insights.name
