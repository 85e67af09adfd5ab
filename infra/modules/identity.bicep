@description('Name of the identity that jobs and endpoints run as.')
param name string

@description('Azure region.')
param location string

@description('Tags of every resource.')
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

@description('Resource id.')
output id string = identity.id

@description('Name.')
output name string = identity.name

@description('Object id in Entra, for role assignments.')
output principalId string = identity.properties.principalId
