// Private networking, where wanted: the apps leave by a subnet of their own, and reach their storage by private endpoints alone. The
// apps' own address stays public, for Event Grid pushes to public endpoints; it is restricted to Event Grid and the operators.
@description('Unique part of every name.')
param token string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Address space of the network; /24 at least.')
param addressSpace string

@description('Accounts and what of them gets an endpoint: {name, id, services}.')
param accounts { name: string, id: string, services: ('blob' | 'queue' | 'table')[] }[]

var services = ['blob', 'queue', 'table']
var endpoints = flatten(map(accounts, a => map(a.services, s => { account: a.name, id: a.id, service: s })))

resource guard 'Microsoft.Network/networkSecurityGroups@2025-05-01' = {
  name: 'nsg-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'nothing-from-the-internet'
        properties: {
          direction: 'Inbound'
          priority: 4000
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: 'vnet-${token}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressSpace] }
    subnets: [
      {
        name: 'snet-app'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 26, 0)
          networkSecurityGroup: { id: guard.id }
          delegations: [{ name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }]
        }
      }
      {
        name: 'snet-guest'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 26, 1)
          networkSecurityGroup: { id: guard.id }
          delegations: [{ name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }]
        }
      }
      {
        name: 'snet-endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 26, 2)
          networkSecurityGroup: { id: guard.id }
          privateEndpointNetworkPolicies: 'Enabled'
        }
      }
    ]
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for one in services: {
    name: 'privatelink.${one}.${environment().suffixes.storage}'
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (one, i) in services: {
    parent: zones[i]
    name: 'link-${token}'
    location: 'global'
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: network.id }
    }
  }
]

resource ends 'Microsoft.Network/privateEndpoints@2025-05-01' = [
  for one in endpoints: {
    name: 'pe-${one.account}-${one.service}'
    location: location
    tags: tags
    properties: {
      subnet: { id: '${network.id}/subnets/snet-endpoints' }
      privateLinkServiceConnections: [
        {
          name: one.service
          properties: {
            privateLinkServiceId: one.id
            groupIds: [one.service]
          }
        }
      ]
    }
  }
]

resource groups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = [
  for (one, i) in endpoints: {
    parent: ends[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: one.service
          properties: { privateDnsZoneId: zones[indexOf(services, one.service)].id }
        }
      ]
    }
  }
]

output appSubnetId string = '${network.id}/subnets/snet-app'
output guestSubnetId string = '${network.id}/subnets/snet-guest'
