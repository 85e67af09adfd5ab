@description('Name of the Azure ML workspace.')
param name string

@description('Display name.')
param friendlyName string

@description('Azure region.')
param location string

@description('Tags of every resource.')
param tags object

@description('Resource id of the storage account.')
param storageId string

@description('Resource id of the container registry.')
param registryId string

@description('Resource id of the key vault.')
param vaultId string

@description('Resource id of the Application Insights component.')
param insightsId string

@description('Azure ML sends Microsoft less data about jobs.')
param highBusinessImpact bool

@description('Reachable only through private endpoints; jobs run in a managed network.')
param private bool

@description('Jobs in the managed network may fetch from PyPI and Hugging Face.')
param packageHosts bool

var hosts = {
  'pypi-index': {
    category: 'UserDefined'
    type: 'FQDN'
    destination: 'pypi.org'
  }
  'pypi-files': {
    category: 'UserDefined'
    type: 'FQDN'
    destination: 'files.pythonhosted.org'
  }
  'hugging-face': {
    category: 'UserDefined'
    type: 'FQDN'
    destination: 'huggingface.co'
  }
  // Large files come from hosts of these two domains.
  'hugging-face-files': {
    category: 'UserDefined'
    type: 'FQDN'
    destination: '*.huggingface.co'
  }
  'hugging-face-storage': {
    category: 'UserDefined'
    type: 'FQDN'
    destination: '*.hf.co'
  }
}

// Azure ML itself gives a system-assigned identity the roles it needs on storage, registry and vault.
resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-12-01' = {
  name: name
  location: location
  tags: tags
  kind: 'Default'
  sku: {
    name: 'Basic'
    tier: 'Basic'
  }
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    friendlyName: friendlyName
    storageAccount: storageId
    containerRegistry: registryId
    keyVault: vaultId
    applicationInsights: insightsId
    systemDatastoresAuthMode: 'Identity'
    hbiWorkspace: highBusinessImpact
    v1LegacyMode: false
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    // A registry without public access can't build images; a machine in the managed network can.
    imageBuildCompute: private ? 'tunewright-cpu' : null
    managedNetwork: private ? {
      isolationMode: 'AllowOnlyApprovedOutbound'
      firewallSku: 'Basic'
      outboundRules: packageHosts ? hosts : {}
    } : {
      isolationMode: 'Disabled'
    }
  }
}

@description('Resource id.')
output id string = workspace.id

@description('Name.')
output name string = workspace.name

@description('Object id of the identity of the workspace.')
output principalId string = workspace.identity.principalId
