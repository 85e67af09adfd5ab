@description('Name of the cluster.')
param name string

@description('Azure region.')
param location string

@description('Tags of every resource.')
param tags object

@description('Name of the Azure ML workspace.')
param workspaceName string

@description('Resource id of the identity that jobs run as.')
param identityId string

@description('Machine size.')
param size string

@description('The most machines.')
param nodes int

@description('Cheaper machines, which Azure may take away.')
param lowPriority bool

@description('Machines have no public address.')
param private bool

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-12-01' existing = {
  name: workspaceName
}

resource cluster 'Microsoft.MachineLearningServices/workspaces/computes@2025-12-01' = {
  parent: workspace
  name: name
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    computeType: 'AmlCompute'
    disableLocalAuth: true
    properties: {
      osType: 'Linux'
      vmSize: size
      vmPriority: lowPriority ? 'LowPriority' : 'Dedicated'
      remoteLoginPortPublicAccess: 'Disabled'
      enableNodePublicIp: !private
      scaleSettings: {
        minNodeCount: 0
        maxNodeCount: nodes
        nodeIdleTimeBeforeScaleDown: 'PT120S'
      }
    }
  }
}
