@description('Name of the container registry.')
param name string

@description('Azure region.')
param location string

@description('Tags of every resource.')
param tags object

@description('Reachable only through private endpoints.')
param private bool

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' = {
  name: name
  location: location
  tags: tags
  sku: {
    // Only Premium has private endpoints.
    name: private ? 'Premium' : 'Basic'
  }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    networkRuleBypassOptions: 'AzureServices'
  }
}

@description('Resource id.')
output id string = registry.id

@description('Name.')
output name string = registry.name

@description('Host, as images name it.')
output host string = registry.properties.loginServer
