// What differs from the defaults of main.bicep. Read by `make deploy` and by azd alike (azd prefers it to a JSON file); azd puts what
// `azd env set NAME VALUE` was told into the environment. Lists are JSON: ["203.0.113.0/24"].
using 'main.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME', 'responder')
param location = readEnvironmentVariable('AZURE_LOCATION', 'westeurope')
param mode = readEnvironmentVariable('RESPONDER_MODE', 'enforce')
param deployment = readEnvironmentVariable('RESPONDER_DEPLOYMENT', 'default')
param guestApp = bool(readEnvironmentVariable('RESPONDER_GUEST_APP', 'false'))
param privateNetwork = bool(readEnvironmentVariable('RESPONDER_PRIVATE_NETWORK', 'false'))
param signInClientId = readEnvironmentVariable('RESPONDER_SIGN_IN_CLIENT_ID', '')
param notifySecretUri = readEnvironmentVariable('RESPONDER_NOTIFY_SECRET_URI', '')
param operatorAddresses = json(readEnvironmentVariable('RESPONDER_OPERATOR_ADDRESSES', '[]'))
param mailAddresses = json(readEnvironmentVariable('RESPONDER_MAIL_ADDRESSES', '[]'))
