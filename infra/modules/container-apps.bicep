@description('Name of the Container Apps environment.')
param name string

@description('Azure region.')
param location string

@description('Tags of every resource.')
param tags object

@description('Resource id of the Log Analytics workspace.')
param logsId string

@description('Apps are reachable in the virtual network only.')
param private bool

@description('Resource id of the virtual network; empty if not private.')
param networkId string

@description('Resource id of the subnet in which apps run; empty if not private.')
param subnetId string

resource apps 'Microsoft.App/managedEnvironments@2025-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    // The direct destination, log-analytics, would need the key of the logs.
    appLogsConfiguration: {
      destination: 'azure-monitor'
    }
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    vnetConfiguration: private ? {
      infrastructureSubnetId: subnetId
      internal: true
    } : null
    workloadProfiles: [
      {
        name: 'Consumption'
        workloadProfileType: 'Consumption'
      }
    ]
  }
}

resource logging 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: apps
  properties: {
    workspaceId: logsId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
  }
}

module names 'container-apps-names.bicep' = if (private) {
  name: 'container-apps-names'
  params: {
    domain: apps.properties.defaultDomain
    address: apps.properties.staticIp
    networkId: networkId
    tags: tags
  }
}

@description('Name.')
output name string = apps.name
