// The gateway as a container app, in a Container Apps environment and with an identity that there are:
//
//   az deployment group create --resource-group GROUP --template-file infra/gateway/container-app.bicep --parameters \
//     environmentName=ENVIRONMENT identityName=IDENTITY image=REGISTRY.azurecr.io/gateway@sha256:… \
//     settings=@gateway.yaml variables=@variables.json files=@files.json database=true
//
// Before that, the identity needs these roles: AcrPull on the registry, Key Vault Secrets User on the vault, and for
// upstreams with `key: entra` Cognitive Services OpenAI User on the Azure OpenAI account.
//
// Projects of jobs are in the image, because Container Apps mounts no shares but Azure Files', and those over SMB only
// with the storage account's key (learn.microsoft.com/azure/container-apps/storage-mounts, 2026-01-15). Such a share is
// for captures alone. What own models answer goes there too, below .own/JOB, because the image's projects are root's.
//
// The environment's ingress ends requests after 240 s (learn.microsoft.com/azure/container-apps/ingress-overview,
// 2025-05-02). The gateway reads a changed secret when its revision is started again.

@description('Name of the container app.')
param name string = 'gateway'

@description('Azure region.')
param location string = resourceGroup().location

@description('Tags of every resource.')
param tags object = {}

@description('Name of the Container Apps environment, in this resource group.')
param environmentName string

@description('Name of the user-assigned identity, in this resource group, that pulls the image, reads the vault, and signs in to Azure OpenAI.')
param identityName string

@description('Image of the gateway, with a digest: REGISTRY.azurecr.io/NAME@sha256:….')
param image string

@description('Content of gateway.yaml. It names variables and holds no keys. Its folder is read-only: name /captures for captures, /data/… for projects, and no store.')
param settings string

@description('By environment variable that the settings name, the address in the vault of its value: {"OPENAI_API_KEY": "https://NAME.vault.azure.net/secrets/…"}.')
param variables object = {}

@description('By name of a file beside gateway.yaml, the address in the vault of its content: {"gateway-keys.json": "https://NAME.vault.azure.net/secrets/…"}.')
param files object = {}

@description('The settings name a PostgreSQL database. Without one there is one replica, whose modes, counts and spent money are lost with it: enough for a gateway without jobs and budgets.')
param database bool = false

@description('The most replicas with a database.')
@minValue(1)
@maxValue(300)
param maxReplicas int = 4

@description('Requests at a time per replica above which another one starts; half of what the settings allow by default, 1,000.')
@minValue(1)
param concurrentRequests int = 500

@description('vCPUs, each with 2 GiB. Requests are passed through on one; own models need more.')
@minValue(1)
@maxValue(4)
param cores int = 1

@description('Captures go to a share. Without one, /captures is lost with its replica.')
param captures bool = false

@description('Name of that share in the environment (az containerapp env storage set), of Azure Files over SMB.')
param shareName string = ''

@description('Whether clients outside of the environment can reach the gateway. Its settings need keys then. Container Apps can not hide a path, so /metrics is open to them too.')
param external bool = false

var variableReferences = [for each in items(variables): {
  name: toLower(replace(each.key, '_', '-'))
  keyVaultUrl: each.value
  identity: identity.id
}]

var fileReferences = [for each in items(files): {
  name: 'file-${uniqueString(each.key)}'
  keyVaultUrl: each.value
  identity: identity.id
}]

var variableValues = [for each in items(variables): {
  name: each.key
  secretRef: toLower(replace(each.key, '_', '-'))
}]

var filePaths = [for each in items(files): {
  secretRef: 'file-${uniqueString(each.key)}'
  path: each.key
}]

resource environment 'Microsoft.App/managedEnvironments@2025-07-01' existing = {
  name: environmentName
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource gateway 'Microsoft.App/containerApps@2025-07-01' = {
  name: name
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    managedEnvironmentId: environment.id
    workloadProfileName: 'Consumption'
    configuration: {
      activeRevisionsMode: 'Single'
      registries: [
        {
          server: split(image, '/')[0]
          identity: identity.id
        }
      ]
      ingress: {
        external: external
        targetPort: 8081
        transport: 'auto'
        allowInsecure: false
      }
      secrets: concat([
        {
          name: 'settings'
          // Not a secret, but only secrets can be mounted as files.
          #disable-next-line use-secure-value-for-secure-inputs
          value: settings
        }
      ], variableReferences, fileReferences)
    }
    template: {
      // The gateway answers requests under way for 30 s.
      terminationGracePeriodSeconds: 60
      containers: [
        {
          name: 'gateway'
          image: image
          resources: {
            cpu: cores
            memory: '${cores * 2}Gi'
          }
          env: concat([
            {
              name: 'TUNEWRIGHT_GATEWAY'
              value: '/etc/tunewright/gateway.yaml'
            }
            {
              // Which of the app's identities `key: entra` signs in with.
              name: 'AZURE_CLIENT_ID'
              value: identity.properties.clientId
            }
            {
              // Beside the settings nothing can be written.
              name: 'TUNEWRIGHT_GATEWAY_STORE'
              value: '/store/gateway.db'
            }
            {
              // Changed secrets start no new revision; a changed variable does.
              name: 'SETTINGS_VERSION'
              value: uniqueString(settings, string(variables), string(files))
            }
          ], variableValues)
          probes: [
            {
              type: 'Startup'
              httpGet: {
                path: '/health'
                port: 8081
              }
              periodSeconds: 5
              timeoutSeconds: 5
              failureThreshold: 60
            }
            {
              type: 'Liveness'
              httpGet: {
                path: '/health'
                port: 8081
              }
              periodSeconds: 5
              timeoutSeconds: 5
              failureThreshold: 3
            }
            {
              type: 'Readiness'
              httpGet: {
                path: '/ready'
                port: 8081
              }
              periodSeconds: 5
              timeoutSeconds: 5
              failureThreshold: 3
            }
          ]
          volumeMounts: [
            {
              volumeName: 'settings'
              mountPath: '/etc/tunewright'
            }
            {
              volumeName: 'captures'
              mountPath: '/captures'
            }
            {
              volumeName: 'store'
              mountPath: '/store'
            }
          ]
        }
      ]
      scale: {
        minReplicas: 1
        // SQLite is one replica's.
        maxReplicas: database ? maxReplicas : 1
        rules: [
          {
            name: 'requests'
            http: {
              metadata: {
                concurrentRequests: string(concurrentRequests)
              }
            }
          }
        ]
      }
      volumes: [
        {
          name: 'settings'
          storageType: 'Secret'
          secrets: concat([
            {
              secretRef: 'settings'
              path: 'gateway.yaml'
            }
          ], filePaths)
        }
        {
          name: 'captures'
          storageType: captures ? 'AzureFile' : 'EmptyDir'
          storageName: captures ? shareName : null
          // The image's user.
          mountOptions: captures ? 'uid=10001,gid=10001' : null
        }
        {
          // Never a share: SQLite needs locks and shared memory, which SMB does not have.
          name: 'store'
          storageType: 'EmptyDir'
        }
      ]
    }
  }
}

@description('Host name, under which clients find it at https://HOST/v1.')
output host string = gateway.properties.configuration.ingress.fqdn
