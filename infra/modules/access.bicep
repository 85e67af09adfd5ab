@description('Name of the storage account.')
param storageName string

@description('Name of the container registry.')
param registryName string

@description('Name of the Azure ML workspace.')
param workspaceName string

@description('Name of the Application Insights component.')
param insightsName string

@description('Name of the identity of jobs and endpoints.')
param identityName string

@description('Object id of the identity of jobs and endpoints.')
param identityPrincipalId string

@description('Object id of the identity of the workspace.')
param workspacePrincipalId string

@description('Object id of the principal that will run jobs; empty: nobody gets the roles.')
param principalId string

@description('Kind of the principal.')
param principalType string

@description('The workspace makes its own private endpoints.')
param private bool

// Azure's built-in roles.
var roles = {
  blobs: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe' // Storage Blob Data Contributor
  pull: '7f951dda-4ed3-4680-a7ca-43fe172d538d' // AcrPull
  scientist: 'f6c7c914-8db3-469d-8ca1-694a8f32e121' // AzureML Data Scientist
  publisher: '3913510d-42f4-4e42-8a64-420c390055eb' // Monitoring Metrics Publisher
  operator: 'f1a07417-d97a-45cb-824c-7a7467783830' // Managed Identity Operator
  approver: 'b556d68e-0be0-4f35-a333-ad7ee1ce17ea' // Azure AI Enterprise Network Connection Approver
}

resource storage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: storageName
}

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' existing = {
  name: registryName
}

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-12-01' existing = {
  name: workspaceName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource jobsUseBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(storage.id, identityPrincipalId, roles.blobs)
  scope: storage
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobs)
  }
}

resource jobsPull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(registry.id, identityPrincipalId, roles.pull)
  scope: registry
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.pull)
  }
}

resource jobsUseWorkspace 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(workspace.id, identityPrincipalId, roles.scientist)
  scope: workspace
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.scientist)
  }
}

// Application Insights takes telemetry only from identities.
resource jobsPublish 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, identityPrincipalId, roles.publisher)
  scope: insights
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.publisher)
  }
}

resource personUsesBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(principalId)) {
  name: guid(storage.id, principalId, roles.blobs)
  scope: storage
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobs)
  }
}

resource personUsesWorkspace 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(principalId)) {
  name: guid(workspace.id, principalId, roles.scientist)
  scope: workspace
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.scientist)
  }
}

// Without it only an owner may deploy an endpoint that runs as this identity.
resource personAssignsIdentity 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(principalId)) {
  name: guid(identity.id, principalId, roles.operator)
  scope: identity
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.operator)
  }
}

// Since 2025 Azure ML no longer assigns itself the right to approve the endpoints of its managed network.
resource workspaceApproves 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (private) {
  name: guid(resourceGroup().id, workspacePrincipalId, roles.approver)
  properties: {
    principalId: workspacePrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.approver)
  }
}
