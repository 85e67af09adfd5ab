targetScope = 'subscription'

@description('Name of the azd environment; it names and tags everything.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Azure region.')
param location string

@description('Object id of the principal that runs azd and will run jobs; empty: nobody gets roles.')
param principalId string = ''

@description('Kind of the principal.')
@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
param principalType string = 'User'

@description('E-mail address for the budget alerts.')
param budgetEmail string

@description('Monthly budget of the resource group, in the currency of the subscription.')
@minValue(1)
param budgetAmount int = 100

// An output passes it to the next deployment, because Azure refuses to change the start of a budget.
@description('First day of the budget, yyyy-MM-01; empty: this month.')
param budgetStart string = ''

@description('Start of the budget at the first deployment; do not set it.')
param thisMonth string = utcNow('yyyy-MM-01')

// A new subscription has no quota for GPUs, and then Azure refuses the cluster.
@description('Make the cluster tunewright-gpu.')
param gpu bool = false

@description('Machine size of the cluster tunewright-gpu.')
param gpuSize string = 'Standard_NC4as_T4_v3'

@description('The most machines in the cluster tunewright-gpu.')
@minValue(1)
param gpuNodes int = 1

@description('Machine size of the cluster tunewright-cpu.')
param cpuSize string = 'Standard_D4s_v3'

@description('The most machines in the cluster tunewright-cpu.')
@minValue(1)
param cpuNodes int = 2

@description('Cheaper GPU machines, which Azure may take away: a training resumes from its checkpoint.')
param lowPriority bool = false

@description('The data is sensitive: Azure ML then sends Microsoft less data about jobs. It can only be set at creation.')
param highBusinessImpact bool = false

@description('Nothing is reachable from the internet, and jobs reach only approved destinations.')
param private bool = false

@description('Jobs of a private workspace may fetch from PyPI and Hugging Face, through a firewall that costs.')
param packageHosts bool = true

@description('Addresses of the virtual network of a private workspace; at least a /23.')
param addressSpace string = '10.80.0.0/22'

@description('Make a Container Apps environment, for tunewright deploy --to aca.')
param containerApps bool = false

var tags = {
  tunewright: environmentName
  'azd-env-name': environmentName
}
var token = toLower(uniqueString(subscription().id, environmentName, location))
var start = empty(budgetStart) ? thisMonth : budgetStart

// Quota is counted by family, under the name in the API of quotas: `standard...Family`, `dedicated`, or `TotalLowPriorityCores`,
// `lowPriority`, for all at low priority. Source: github.com/Azure/azure-rest-api-specs, specification/quota, examples
// getMachineLearningServicesQuotaLimits and putMachineLearningServicesQuotaRequestLowPriority (read 2026-11-29). The examples have no family with
// GPUs: these are spelled as in the preflight (src/tunewright/backends/azure/rules.yaml). Azure's own list: az quota list --scope.
var gpuFamilies = {
  Standard_NC4as_T4_v3: 'standardNCASv3_T4Family'
  Standard_NC8as_T4_v3: 'standardNCASv3_T4Family'
  Standard_NC64as_T4_v3: 'standardNCASv3_T4Family'
  Standard_NC24ads_A100_v4: 'standardNCADSA100v4Family'
  Standard_NC48ads_A100_v4: 'standardNCADSA100v4Family'
  Standard_NC96ads_A100_v4: 'standardNCADSA100v4Family'
  Standard_ND96amsr_A100_v4: 'standardNDAMSv4_A100Family'
  Standard_NC40ads_H100_v5: 'standardNCADSH100v5Family'
  Standard_NC80adis_H100_v5: 'standardNCADSH100v5Family'
  Standard_ND96isr_H100_v5: 'standardNDv5H100Family'
}
var gpuCores = {
  Standard_NC4as_T4_v3: 4
  Standard_NC8as_T4_v3: 8
  Standard_NC64as_T4_v3: 64
  Standard_NC24ads_A100_v4: 24
  Standard_NC48ads_A100_v4: 48
  Standard_NC96ads_A100_v4: 96
  Standard_ND96amsr_A100_v4: 96
  Standard_NC40ads_H100_v5: 40
  Standard_NC80adis_H100_v5: 80
  Standard_ND96isr_H100_v5: 96
}
var quotaScope = '/subscriptions/${subscription().subscriptionId}/providers/Microsoft.MachineLearningServices/locations/${location}'

resource group 'Microsoft.Resources/resourceGroups@2024-07-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module budget 'modules/budget.bicep' = {
  name: 'budget'
  scope: group
  params: {
    name: 'budget-${token}'
    amount: budgetAmount
    email: budgetEmail
    start: start
  }
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'id-${token}'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    logsName: 'log-${token}'
    insightsName: 'appi-${token}'
    location: location
    tags: tags
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: 'st${token}'
    location: location
    tags: tags
    private: private
  }
}

module registry 'modules/registry.bicep' = {
  name: 'registry'
  scope: group
  params: {
    name: 'cr${token}'
    location: location
    tags: tags
    private: private
  }
}

module vault 'modules/keyvault.bicep' = {
  name: 'keyvault'
  scope: group
  params: {
    name: 'kv-${token}'
    location: location
    tags: tags
    private: private
  }
}

module workspace 'modules/workspace.bicep' = {
  name: 'workspace'
  scope: group
  params: {
    name: 'mlw-${token}'
    friendlyName: environmentName
    location: location
    tags: tags
    storageId: storage.outputs.id
    registryId: registry.outputs.id
    vaultId: vault.outputs.id
    insightsId: monitoring.outputs.insightsId
    highBusinessImpact: highBusinessImpact
    private: private
    packageHosts: packageHosts
  }
}

module access 'modules/access.bicep' = {
  name: 'access'
  scope: group
  params: {
    storageName: storage.outputs.name
    registryName: registry.outputs.name
    workspaceName: workspace.outputs.name
    insightsName: monitoring.outputs.insightsName
    identityName: identity.outputs.name
    identityPrincipalId: identity.outputs.principalId
    workspacePrincipalId: workspace.outputs.principalId
    principalId: principalId
    principalType: principalType
    private: private
  }
}

module gpuCluster 'modules/cluster.bicep' = if (gpu) {
  name: 'cluster-gpu'
  scope: group
  params: {
    name: 'tunewright-gpu'
    location: location
    tags: tags
    workspaceName: workspace.outputs.name
    identityId: identity.outputs.id
    size: gpuSize
    nodes: gpuNodes
    lowPriority: lowPriority
    private: private
  }
  // The first machine of a private workspace makes its network, which needs the roles of the workspace.
  dependsOn: [
    access
  ]
}

module cpuCluster 'modules/cluster.bicep' = {
  name: 'cluster-cpu'
  scope: group
  params: {
    name: 'tunewright-cpu'
    location: location
    tags: tags
    workspaceName: workspace.outputs.name
    identityId: identity.outputs.id
    size: cpuSize
    nodes: cpuNodes
    lowPriority: false
    private: private
  }
  // One after the other: two at once would both try to make the network, which needs the roles of the workspace.
  dependsOn: [
    access
    gpuCluster
  ]
}

module network 'modules/network.bicep' = if (private) {
  name: 'network'
  scope: group
  params: {
    name: 'vnet-${token}'
    location: location
    tags: tags
    addressSpace: addressSpace
    workspaceId: workspace.outputs.id
    workspacePrincipalId: workspace.outputs.principalId
    storageId: storage.outputs.id
    registryId: registry.outputs.id
    vaultId: vault.outputs.id
  }
}

module apps 'modules/container-apps.bicep' = if (containerApps) {
  name: 'container-apps'
  scope: group
  params: {
    name: 'cae-${token}'
    location: location
    tags: tags
    logsId: monitoring.outputs.logsId
    private: private
    networkId: private ? network!.outputs.id : ''
    subnetId: private ? network!.outputs.appsSubnetId : ''
  }
}

@description('Id of the subscription.')
output AZURE_SUBSCRIPTION_ID string = subscription().subscriptionId

@description('The resource group.')
output AZURE_RESOURCE_GROUP string = group.name

@description('The region.')
output AZURE_LOCATION string = location

@description('Name of the Azure ML workspace.')
output AZURE_ML_WORKSPACE string = workspace.outputs.name

@description('Resource id of the identity that jobs and endpoints run as.')
output AZURE_ML_IDENTITY string = identity.outputs.id

@description('Name of the registry.')
output AZURE_CONTAINER_REGISTRY string = registry.outputs.name

@description('Host of the registry, as images name it.')
output AZURE_CONTAINER_REGISTRY_ENDPOINT string = registry.outputs.host

@description('Name of the Container Apps environment; empty if there is none.')
output AZURE_CONTAINER_APPS_ENVIRONMENT string = containerApps ? apps!.outputs.name : ''

// The hook in azure.yaml shows it.
@description('Command that requests quota for the cluster tunewright-gpu; for an unknown size, the command that lists the families.')
output TUNEWRIGHT_GPU_QUOTA string = contains(gpuFamilies, gpuSize) ? (lowPriority ? 'az quota create --resource-name TotalLowPriorityCores --limit-object value=${gpuCores[gpuSize] * gpuNodes} --scope ${quotaScope} --resource-type lowPriority' : 'az quota create --resource-name ${gpuFamilies[gpuSize]} --limit-object value=${gpuCores[gpuSize] * gpuNodes} --scope ${quotaScope} --resource-type dedicated') : 'az quota list --scope ${quotaScope}'

@description('Passed to the next deployment as budgetStart.')
output TUNEWRIGHT_BUDGET_START string = start
