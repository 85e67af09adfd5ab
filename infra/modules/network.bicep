@description('Name of the virtual network.')
param name string

@description('Azure region.')
param location string

@description('Tags of every resource.')
param tags object

@description('Addresses of the network.')
param addressSpace string

@description('Resource id of the Azure ML workspace.')
param workspaceId string

@description('Object id of the identity of the workspace.')
param workspacePrincipalId string

@description('Resource id of the storage account.')
param storageId string

@description('Resource id of the container registry.')
param registryId string

@description('Resource id of the key vault.')
param vaultId string

var zones = {
  api: 'privatelink.api.azureml.ms'
  notebooks: 'privatelink.notebooks.azure.net'
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  file: 'privatelink.file.${environment().suffixes.storage}'
  registry: 'privatelink${environment().suffixes.acrLoginServer}'
  vault: 'privatelink.vaultcore.azure.net'
}

// The studio reaches the storage for its users only if the workspace may read these endpoints.
var endpoints = [
  {
    name: 'workspace'
    target: workspaceId
    part: 'amlworkspace'
    zones: [
      zones.api
      zones.notebooks
    ]
    reader: ''
  }
  {
    name: 'blob'
    target: storageId
    part: 'blob'
    zones: [
      zones.blob
    ]
    reader: workspacePrincipalId
  }
  {
    name: 'file'
    target: storageId
    part: 'file'
    zones: [
      zones.file
    ]
    reader: workspacePrincipalId
  }
  {
    name: 'registry'
    target: registryId
    part: 'registry'
    zones: [
      zones.registry
    ]
    reader: ''
  }
  {
    name: 'vault'
    target: vaultId
    part: 'vault'
    zones: [
      zones.vault
    ]
    reader: ''
  }
]

resource network 'Microsoft.Network/virtualNetworks@2025-01-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        addressSpace
      ]
    }
    subnets: [
      {
        name: 'endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 24, 0)
        }
      }
      {
        name: 'apps'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 24, 1)
          delegations: [
            {
              name: 'container-apps'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
    ]
  }
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = [for item in items(zones): {
  name: item.value
  location: 'global'
  tags: tags
}]

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (item, index) in items(zones): {
  parent: zone[index]
  name: name
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: network.id
    }
  }
}]

// One after the other: the storage refuses two changes of its connections at once.
@batchSize(1)
module endpoint 'private-endpoint.bicep' = [for item in endpoints: {
  name: 'endpoint-${item.name}'
  params: {
    name: 'pe-${item.name}-${name}'
    location: location
    tags: tags
    subnetId: '${network.id}/subnets/endpoints'
    targetId: item.target
    part: item.part
    zones: item.zones
    readerPrincipalId: item.reader
  }
  dependsOn: [
    link
  ]
}]

@description('Resource id.')
output id string = network.id

@description('Resource id of the subnet for Container Apps.')
output appsSubnetId string = '${network.id}/subnets/apps'
